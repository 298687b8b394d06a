"""Score against parameter count as a file: PNG, SVG or PDF, drawn by matplotlib.

The figure is made without pyplot, so that nothing global (the backend, open figures) is touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.front import pareto_front
from superlora_diffusion.files import write_atomically

POINT, BASE, QUIET, FRONT = "#1f5fa8", "#b5482a", "#5a5a5a", "#8a939c"
FORMATS = ("png", "svg", "pdf")
# Where a label may stand beside its point, best first: offset in points, alignment.
LABEL_PLACES = (
    ((9, 0), "left", "center"),
    ((-9, 0), "right", "center"),
    ((0, 13), "center", "bottom"),
    ((0, -13), "center", "top"),
    ((12, 16), "left", "bottom"),
    ((-12, -16), "right", "top"),
    ((12, -16), "left", "top"),
    ((-12, 16), "right", "bottom"),
)
FAR_PLACES = (
    ((0, 30), "center", "bottom"),
    ((0, -30), "center", "top"),
    ((30, 30), "left", "bottom"),
    ((-30, -30), "right", "top"),
)
_MANY = 12
"""With more points than this, only those of the front are labelled, where there is room."""


@dataclass(frozen=True)
class Point:
    """One setting in the plane."""

    name: str
    parameters: int
    score: float
    error: float | None = None
    """Half the length of its bar; None draws none."""
    group: str | None = None
    """What the legend calls it; None is not in the legend."""
    colour: str = POINT
    marker: str = "o"
    filled: bool = True


@dataclass(frozen=True)
class Chart:
    """What is drawn. Scores are in the score's own unit, parameters are counts above 0."""

    points: Sequence[Point]
    bases: Sequence[tuple[str, float]]
    """(name, score) of each base: 0 parameters, a dashed line."""
    score_label: str
    caption: str
    """How all of it was measured."""
    title: str = "Quality against parameter count"
    higher_is_better: bool = False
    log_score: bool = False
    from_zero: bool = True
    """Whether a linear score axis starts at 0."""
    others: Sequence[Point] = ()
    """Points for comparison only: no part of the front, never labelled."""


def front_of(chart: Chart) -> list[Point]:
    """The points no other one, and no base, beats; fewest parameters first."""
    places = [(point.parameters, point.score) for point in chart.points]
    front = pareto_front([*places, *((0, score) for _, score in chart.bases)], chart.higher_is_better)
    return [chart.points[index] for index in front if index < len(places)]


def save_chart(chart: Chart, path: str | Path) -> None:
    """Draw into a file; the suffix says the format (png, svg, pdf). The same chart gives the same bytes.

    Raises:
        EvaluationError: another suffix.
        SuperLoRAError: the file cannot be written.
    """
    kind = Path(path).suffix.lstrip(".").lower()
    if kind not in FORMATS:
        raise EvaluationError(
            f"{path}: got a plot's name ending in {kind!r}; expected one of {', '.join(FORMATS)}."
        )
    picture = io.BytesIO()
    # Text stays text in SVG and PDF; without a date and with fixed ids the same chart is the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "superlora", "pdf.fonttype": 42}):
        draw_chart(chart).savefig(picture, format=kind, metadata=_metadata(kind))
    write_atomically(path, lambda partial: partial.write_bytes(picture.getvalue()))


def _metadata(kind: str) -> dict[str, None]:
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})


def draw_chart(chart: Chart) -> Figure:
    """The figure: bases as lines, points with bars and labels, the Pareto front as a stair through its points."""
    grouped = any(point.group for point in (*chart.points, *chart.others))
    figure = Figure(figsize=(9.2 if grouped else 7.2, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    front = front_of(chart)
    _style(axes, chart)
    _draw_bases(axes, chart.bases)
    _draw_front(axes, front)
    figure.supxlabel(chart.caption, fontsize=7.5, color=QUIET, parse_math=False, wrap=True)
    if grouped:
        _draw_legend(figure, chart)
    for point in chart.others:
        _draw_point(axes, point, zorder=2)
    figure.draw_without_rendering()  # fixes the layout, so that labels know where the points are
    lines = [axes.transData.transform((1, score))[1] for _, score in chart.bases]
    _draw_points(axes, chart.points, front, lines)
    return figure


def _style(axes: Axes, chart: Chart) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("trained parameters")
    better = "higher" if chart.higher_is_better else "lower"
    axes.set_ylabel(f"{chart.score_label}\n({better} is better)")
    axes.set_title(chart.title, loc="left", fontsize=11, parse_math=False)
    counts = [point.parameters for point in (*chart.points, *chart.others)] or [1000]
    axes.set_xlim(min(counts) / 2.5, max(counts) * 4)
    _set_score_limits(axes, chart)
    # 2 and 5 are written too where the axis is short, or one point would stand between two numbers at most.
    short = max(counts) / min(counts) < 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if short else (1.0,), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _set_score_limits(axes: Axes, chart: Chart) -> None:
    points = (*chart.points, *chart.others)
    highest = max(
        [point.score + (point.error or 0) for point in points] + [score for _, score in chart.bases]
    )
    lowest = min([point.score for point in points] + [score for _, score in chart.bases])
    if chart.log_score and lowest > 0:
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(lowest / 1.6, highest * 1.6)
    elif not chart.from_zero:
        room = 0.15 * (highest - lowest) or 0.05 * abs(highest) or 1e-3
        axes.set_ylim(lowest - room, highest + room)
    else:
        top = 1.18 * max(highest, 1e-3)
        axes.set_ylim(min(0.0, lowest) - 0.03 * top, top)  # a point at 0 is to be seen whole


def _draw_bases(axes: Axes, bases: Sequence[tuple[str, float]]) -> None:
    """A dashed line for each different base; the runs of one base each bring the same record."""
    for name, score in sorted(set(bases)):
        axes.axhline(score, color=BASE, linestyle="--", linewidth=1.3)
        axes.annotate(
            f"{name} (0 parameters)  {score:.3f}",
            xy=(1, score),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 4),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=BASE,
            parse_math=False,
        )


def _draw_front(axes: Axes, front: Sequence[Point]) -> None:
    """A stair: between two settings of the front one has the smaller one's score."""
    if len(front) > 1:
        places = [(point.parameters, point.score) for point in front]
        axes.plot(
            *zip(*places, strict=True),
            drawstyle="steps-post", color=FRONT, linewidth=1.4, zorder=1.5, label="_front", gid="pareto-front",
        )  # fmt: skip


def _draw_point(axes: Axes, point: Point, zorder: float = 3) -> None:
    axes.errorbar(
        point.parameters, point.score, yerr=point.error, fmt=point.marker, color=point.colour, markersize=6,
        ecolor=_lighter(point.colour), capsize=3, markerfacecolor=_face(point), zorder=zorder,
    )  # fmt: skip


def _draw_points(axes: Axes, points: Sequence[Point], front: Sequence[Point], lines: Sequence[float]) -> None:
    """Points, then labels clear of them, of the axes, of the front and of the bases' ``lines`` (heights in pixels)."""
    labelled = points if len(points) <= _MANY else front
    inside = axes.get_window_extent()
    taken = [
        Bbox.from_extents(inside.x0, 0, inside.x1, inside.y0),
        Bbox.from_extents(0, 0, inside.x0, inside.y1),
        *(Bbox.from_extents(inside.x0, y - 2, inside.x1, y + 2) for y in lines),
        *_stair_boxes(axes, front),
    ]
    for point in points:
        _draw_point(axes, point)
        x, y = axes.transData.transform((point.parameters, point.score))
        taken.append(Bbox.from_bounds(x - 12, y - 12, 24, 24))
    for point in labelled:
        box = place_label(axes, point, taken, must=len(points) <= _MANY)
        taken += [] if box is None else [box]


def _stair_boxes(axes: Axes, front: Sequence[Point]) -> list[Bbox]:
    """Where the front's line runs, in pixels: labels keep clear of it."""
    corners = [axes.transData.transform((point.parameters, point.score)) for point in front]
    boxes = []
    for (x, y), (next_x, next_y) in pairwise(corners):
        boxes.append(Bbox.from_extents(x, y - 2, next_x, y + 2))
        boxes.append(Bbox.from_extents(next_x - 2, min(y, next_y), next_x + 2, max(y, next_y)))
    return boxes


def _draw_legend(figure: Figure, chart: Chart) -> None:
    """One entry a group in the order of the points, and the front."""
    groups = {point.group: point for point in reversed((*chart.points, *chart.others)) if point.group}
    groups = dict(reversed(groups.items()))
    handles = [_legend_mark(point) for point in groups.values()]
    names = [*groups, "Pareto front"]
    handles.append(Line2D([], [], color=FRONT, linewidth=1.4))
    # Labels are set afterwards: matplotlib leaves out those that begin with an underscore.
    numbers = [str(number) for number in range(len(names))]
    legend = figure.legend(handles, numbers, loc="outside right upper", fontsize=8.5, frameon=False)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(parse_math=False, text=name)


def _legend_mark(point: Point) -> Line2D:
    style = {"marker": point.marker, "color": point.colour, "markerfacecolor": _face(point)}
    return Line2D([], [], linestyle="none", **style)


def _face(point: Point) -> str:
    return point.colour if point.filled else "white"


def _lighter(colour: str) -> tuple[float, float, float]:
    """Halfway to white."""
    return tuple(0.5 + int(colour[i : i + 2], 16) / 510 for i in (1, 3, 5))


def place_label(axes: Axes, point: Point, taken: list[Bbox], must: bool) -> Bbox | None:
    """Write the name beside its point where nothing stands yet; if all is full, at the first place or not at all."""
    label = axes.annotate(
        f"{point.name}\n{point.parameters:,}",
        xy=(point.parameters, point.score),
        textcoords="offset points",
        xytext=(0, 0),
        fontsize=8.5,
        linespacing=1.15,
        parse_math=False,
        arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4},
    )
    renderer = axes.figure.canvas.get_renderer()
    for place in LABEL_PLACES if must else (*LABEL_PLACES, *FAR_PLACES):
        box = _stand(label, place, renderer)
        if not box.count_overlaps(taken):
            return box
    if not must:
        label.remove()
        return None
    return _stand(label, LABEL_PLACES[0], renderer)


def _stand(label: Annotation, place: tuple, renderer: RendererBase) -> Bbox:
    """Put the label there; one that does not stand right beside its point gets a thin line to it."""
    offset, horizontal, vertical = place
    label.set(position=offset, ha=horizontal, va=vertical)
    label.arrow_patch.set_visible(math.hypot(*offset) > 13)
    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer)  # without the line
