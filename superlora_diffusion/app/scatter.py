"""The points of a front as one SVG picture: no script and nothing to load; a point is known by ``data-point``."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from ..report.metrics import suits_log_axis
from ..report.style import Style, family_styles
from .sweeps import Front, Point

WIDTH, HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 14, 14, 50
_RADIUS = 7


class Axis:
    """From values to places between ``start`` and ``end``, in pixels."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        self.log = log
        self._low, self._high = (math.log10(low), math.log10(high)) if log else (low, high)
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        """Pixels."""
        told = math.log10(value) if self.log else value
        part = (told - self._low) / (self._high - self._low)
        return round(self._start + part * (self._end - self._start), 1)

    def ticks(self) -> list[float]:
        """Round values on the axis: about five on a linear one, powers of ten (and 2 and 5) on a logarithmic one."""
        if not self.log:
            step = _round_step((self._high - self._low) / 5)
            first = math.ceil(self._low / step - 1e-9)
            return [step * i for i in range(first, math.floor(self._high / step + 1e-9) + 1)]
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        factors = (1, 2, 5) if self._high - self._low < 2 else (1,)
        values = [factor * 10.0**power for power in powers for factor in factors]
        return [value for value in values if self._low - 1e-9 <= math.log10(value) <= self._high + 1e-9]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def draw_scatter(front: Front, chosen: int | None = None) -> str:
    """The picture.

    Args:
        front: what to draw.
        chosen: the number of the point that is marked, in ``front.points``.
    """
    across, up = _axes(front)
    styles = family_styles(point.family for point in front.points)
    parts = [*_grid(across, up), *_bases(front, up), _stair(front, across, up)]
    parts += [
        _mark(number, point, front, styles[point.family], (across, up), number == chosen)
        for number, point in enumerate(front.points)
    ]
    better = "higher" if front.metric.higher_is_better else "lower"
    label = f"{front.metric.short} ({better} is better)"
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 8, "trained parameters", "middle"))
    parts.append(
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{_safe(label)}</text>'
    )
    return (
        f'<svg class="front" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{_safe(label)} against trained '
        f'parameters">{"".join(parts)}</svg>{_legend(styles)}'
    )


def _axes(front: Front) -> tuple[Axis, Axis]:
    counts = [point.parameters for point in front.points]
    scores = [point.score for point in front.points] + [score for _, score in front.bases]
    log = suits_log_axis(front.metric, scores)
    low, high = min(scores), max(scores)
    room = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    ends = (low / 1.3, high * 1.3) if log else (low - room, high + room)
    if front.metric.from_zero and not log:
        ends = (0.0, ends[1])
    across = Axis(min(counts) / 2, max(counts) * 2, _LEFT, WIDTH - _RIGHT, log=True)
    return across, Axis(*ends, HEIGHT - _BOTTOM, _TOP, log)


def _grid(across: Axis, up: Axis) -> list[str]:
    parts = []
    for value in across.ticks():
        x = across.place(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        parts.append(_text(x, HEIGHT - _BOTTOM + 16, _short(value), "middle"))
    for value in up.ticks():
        y = up.place(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.6g}", "end"))
    return parts


def _short(count: float) -> str:
    """1000 as 1k, 2000000 as 2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return f"{count:g}"


def _bases(front: Front, up: Axis) -> list[str]:
    parts = []
    for name, score in front.bases:
        y = up.place(score)
        parts.append(f'<line class="base" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(_text(WIDTH - _RIGHT - 4, y - 5, f"base {name[:30]}", "end"))
    return parts


def _stair(front: Front, across: Axis, up: Axis) -> str:
    """The front as a line: what the best score is with at most so many parameters."""
    places = [(across.place(point.parameters), up.place(point.score)) for point in front.stair]
    if not places:
        return ""
    steps = f"M {places[0][0]} {places[0][1]}" + "".join(f" H {x} V {y}" for x, y in places[1:])
    return f'<path class="stair" d="{steps} H {WIDTH - _RIGHT}"/>'


def _mark(
    number: int, point: Point, front: Front, style: Style, axes: tuple[Axis, Axis], chosen: bool
) -> str:
    x, y = axes[0].place(point.parameters), axes[1].place(point.score)
    bar = "" if point.error is None else f" ± {front.metric.write(point.error)}"
    told = (
        f"{point.name}: {point.family}, {point.parameters:,} parameters, {front.metric.short} "
        f"{front.metric.write(point.score)}{bar}"
    )
    classes = "point" + (" chosen" if chosen else "") + ("" if style.ours else " open")
    return (
        f'<g class="{classes}" data-point="{number}" tabindex="0" role="button" aria-label="{_safe(told)}" '
        f'style="--light:{style.light};--dark:{style.dark}"><title>{_safe(told)}</title>'
        f'<circle class="reach" cx="{x}" cy="{y}" r="{2 * _RADIUS}"/>{_shape(style, x, y)}</g>'
    )


def _shape(style: Style, x: float, y: float) -> str:
    """The mark of a family, as the report has it."""
    sides = {"diamond": 4, "triangle-up": 3, "square-open": 4, "triangle-down-open": 3, "hexagon-open": 6}
    start = {"square-open": 45, "triangle-down-open": 180}.get(style.symbol, 0)
    if style.symbol not in sides:
        return f'<circle class="mark" cx="{x}" cy="{y}" r="{_RADIUS}"/>'
    turn = [math.radians(start + 360 * i / sides[style.symbol]) for i in range(sides[style.symbol])]
    corners = [(x + 1.2 * _RADIUS * math.sin(t), y - 1.2 * _RADIUS * math.cos(t)) for t in turn]
    return f'<polygon class="mark" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in corners)}"/>'


def _legend(styles: dict[str, Style]) -> str:
    items = [
        f'<span style="--light:{style.light};--dark:{style.dark}"><b>{style.glyph}</b> {_safe(name)}</span>'
        for name, style in styles.items()
    ]
    return f'<div class="legend">{"".join(items)}</div>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{_safe(text)}</text>'


def _safe(text: object) -> str:
    """Text that neither HTML nor a template reads as anything else."""
    escaped = html.escape(str(text), quote=True)
    for sign in "{}$`\\":
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    return escaped


TABLE_HEAD = ("#", "setting", "method", "parameters", "score", "front")


def table_rows(front: Front) -> Sequence[list[object]]:
    """A row a point: its number, name, method, parameters, score, and a star on the front."""
    return [
        [
            number,
            point.name,
            point.family,
            f"{point.parameters:,}",
            front.metric.write(point.score) + ("" if point.error is None else f" ± {front.metric.write(point.error)}"),
            "★" if point.on_front else "",
        ]
        for number, point in enumerate(front.points)
    ]  # fmt: skip
