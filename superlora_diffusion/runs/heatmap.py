"""A heat map of an adapter's updates: a row a layer, a column a kind of matrix, as a PNG by matplotlib.

The figure is made without pyplot, so that nothing global (the backend, open figures) is touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..files import write_atomically

_ROWS = 36
"""Up to so many layers stand in one panel."""
_ASPECT = 1.5
"""About how wide against its height a figure of several panels is."""
_WIDE = 10
"""From how many times the median on the largest value asks for a logarithmic scale."""
_COLOURS, _NOTHING = "viridis", "#ededed"
_CELL, _LINE = 0.62, 0.22  # inches: the width of a cell, the height of a row
_LETTER = 0.058  # inches: the width of a label's letter at 7 points
_DPI = 150


@dataclass(frozen=True)
class HeatMap:
    """What is drawn."""

    title: str
    label: str
    """What the colour means."""
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: dict[tuple[str, str], float]
    """By row and column; a cell that is not there has no matrix."""


def save_heat_map(chart: HeatMap, path: Path | str) -> None:
    """Write a PNG.

    Raises:
        SuperLoRAError: if it cannot be written.
    """
    figure = draw_heat_map(chart)
    write_atomically(path, lambda partial: figure.savefig(partial, format="png", dpi=_DPI))


def draw_heat_map(chart: HeatMap) -> Figure:
    """The figure: panels of rows beside each other under one colour scale."""
    panels = split_rows(chart.rows, _panel_width(chart))
    heads = max(map(len, chart.columns))
    angle = 90 if heads > 9 else 0
    width = max(len(panels) * _panel_width(chart) + 0.9, 0.08 * len(chart.title), 4.6)
    height = len(panels[0]) * _LINE + (0.07 * heads if angle else 0.3) + 0.7
    figure = Figure(figsize=(width, max(height, 1.8)), layout="constrained")
    FigureCanvasAgg(figure)
    scale = ScalarMappable(choose_scale(list(chart.values.values())), _COLOURS)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for place, rows in zip(axes, panels, strict=True):
        _draw_panel(place, chart, rows, scale, angle)
    bar = figure.colorbar(scale, ax=list(axes), pad=0.02, aspect=30, fraction=0.04)
    bar.set_label(chart.label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    figure.suptitle(chart.title, fontsize=10, x=0.01, ha="left", parse_math=False)
    return figure


def _panel_width(chart: HeatMap) -> float:
    return max(map(len, chart.rows)) * _LETTER + len(chart.columns) * _CELL + 0.3


def split_rows(rows: Sequence[str], panel_width: float) -> list[Sequence[str]]:
    """The rows in panels of nearly one length: one, or so many that the figure is neither a tower nor a ribbon.

    Args:
        rows: what stands under each other.
        panel_width: of one panel, in inches.
    """
    count = 1
    if len(rows) > _ROWS:
        count = max(1, round(math.sqrt(_ASPECT * len(rows) * _LINE / panel_width)))
    each = math.ceil(len(rows) / count)
    return [rows[start : start + each] for start in range(0, len(rows), each)]


def choose_scale(values: Sequence[float]) -> Normalize:
    """From 0 to the largest value; logarithmic where one value would leave all others in one colour."""
    above = [value for value in values if value > 0]
    if not above:
        return Normalize(0, 1)
    largest = max(above)
    if largest < _WIDE * median(above):
        return Normalize(0, largest)
    return LogNorm(max(min(above), largest / 1e4), largest, clip=True)


def _draw_panel(axes: Axes, chart: HeatMap, rows: Sequence[str], scale: ScalarMappable, angle: int) -> None:
    for y, row in enumerate(rows):
        for x, column in enumerate(chart.columns):
            value = chart.values.get((row, column))
            colour = _NOTHING if value is None else scale.to_rgba(value)
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white"))
            if value is not None:
                ink = "white" if _luminance(colour) < 0.5 else "black"
                axes.text(x, y, short(value), ha="center", va="center", fontsize=6.5, color=ink)
    axes.set(xlim=(-0.5, len(chart.columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(range(len(chart.columns)), chart.columns, fontsize=7, rotation=angle, parse_math=False)
    axes.set_yticks(range(len(rows)), [row or "(top)" for row in rows], fontsize=7, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=3)
    axes.spines[:].set_visible(False)


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance, near enough to choose between black and white letters."""
    red, green, blue = colour[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue


def short(value: float) -> str:
    """Few digits that fit into a cell: 0.0123, 1.20, 123, 1.2e-5."""
    if 0 < value < 1e-2 or value >= 1e3:
        digits, power = f"{value:.1e}".split("e")
        return f"{digits}e{int(power)}"
    return f"{value:#.3g}".rstrip(".") if value else "0"
