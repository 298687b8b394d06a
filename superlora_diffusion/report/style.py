"""Colours and marks of the families: told apart by people of any colour vision, on white and on black, and in print.

Ours are filled, peers are open; a projection changes the shape and keeps the colour. Colours follow Okabe and Ito
(2008), darkened for white and lightened for black.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OURS = ("lorta", "lora", "group_lora", "lokr", "lonkr", "lotr", "dense", "intrinsic", "spectral")
"""Families of a SuperLoRA adapter, each with the colour at its place."""
LIGHT = ("#0072B2", "#D55E00", "#007A5A", "#AA4499", "#A87000", "#332288", "#5C5C5C", "#882255", "#5F7F00")
DARK = ("#56B4E9", "#FF8C42", "#2CC99B", "#E38CC5", "#F0C24B", "#A9A4FF", "#C4C4C4", "#F28AA5", "#BFD94A")
_OUR_MARKS = (("circle", "o"), ("diamond", "D"), ("triangle-up", "^"))
_PEER_MARKS = (("square-open", "s"), ("triangle-down-open", "v"), ("hexagon-open", "h"), ("star-open", "*"))
_GLYPHS = {
    "circle": "●", "diamond": "◆", "triangle-up": "▲",
    "square-open": "□", "triangle-down-open": "▽", "hexagon-open": "⬡", "star-open": "☆",
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How the points of one family look."""

    light: str
    dark: str
    symbol: str
    """plotly's name of the mark."""
    marker: str
    """matplotlib's."""
    ours: bool

    @property
    def glyph(self) -> str:
        """The mark as a sign, for the legend of the page."""
        return _GLYPHS[self.symbol]


def is_ours(family: str) -> bool:
    """Whether the family is one of a SuperLoRA adapter."""
    return family.partition("+")[0] in OURS


def family_styles(families: Iterable[str]) -> dict[str, Style]:
    """A style for each family, ours first. A colour of ours never depends on what else is there."""
    families = sorted(set(families), key=lambda name: (not is_ours(name), _place(name), name))
    peers = [name for name in families if not is_ours(name)]
    styles = {}
    for name in families:
        if is_ours(name):
            colour, (symbol, marker) = _place(name), _OUR_MARKS[_projection_mark(name)]
        else:
            number = peers.index(name)
            # Another order than ours, so that neighbours in the legend do not share colours with ours' first ones.
            colour = (number * 5 + 3) % len(LIGHT)
            symbol, marker = _PEER_MARKS[number // len(LIGHT) % len(_PEER_MARKS)]
        styles[name] = Style(LIGHT[colour], DARK[colour], symbol, marker, is_ours(name))
    return styles


def _place(family: str) -> int:
    name = family.partition("+")[0]
    return OURS.index(name) if name in OURS else len(OURS)


def _projection_mark(family: str) -> int:
    projection = family.partition("+")[2]
    return 0 if not projection else 2 if projection == "shuffle" else 1
