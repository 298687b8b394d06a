"""The paper's picture: Inception Score distance against the number of trained parameters."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.records import ScoreRecord
from superlora_diffusion.files import write_atomically

POINT, SPREAD, BASE, QUIET = "#1f5fa8", "#9dbbe0", "#b5482a", "#5a5a5a"
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


def plot_front(records: Sequence[ScoreRecord], path: str | Path) -> None:
    """A PNG with one point a record and the base, which has no parameters, as a dashed line.

    The distance's bar is the standard error of the generated images' score. The figure is made without
    pyplot, so that nothing global (the backend, open figures) is touched.

    Raises:
        EvaluationError: no records, or records that were not measured alike.
        SuperLoRAError: the file cannot be written.
    """
    records = list(records)
    _check(records, Path(path))
    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    trained = [record for record in records if record.parameters > 0]
    _style(axes, records, trained)
    _draw_base(axes, [record for record in records if record.parameters == 0])
    figure.supxlabel(records[0].protocol, fontsize=7.5, color=QUIET)
    figure.draw_without_rendering()  # fixes the layout, so that labels know where the points are
    _draw_points(axes, trained)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(path, lambda partial: partial.write_bytes(picture.getvalue()))


def _check(records: list[ScoreRecord], path: Path) -> None:
    if not records:
        raise EvaluationError(
            f"{path}: there is no record to plot; expected at least one. Run `eval-is` first."
        )
    protocols = sorted({record.protocol for record in records})
    if len(protocols) > 1:
        raise EvaluationError(
            f"{path}: the records were measured in different ways and cannot share a plot: "
            f"{'; '.join(protocols)}. Score all of them with the same N, splits, seed and extractor."
        )


def _style(axes: Axes, records: list[ScoreRecord], trained: list[ScoreRecord]) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("trained parameters")
    axes.set_ylabel("IS distance |IS - IS of real images|\n(lower is better)")
    axes.set_title("Quality against parameter count", loc="left", fontsize=11)
    counts = [record.parameters for record in trained] or [1000]
    axes.set_xlim(min(counts) / 2.5, max(counts) * 4)
    axes.set_ylim(0, 1.18 * max(max(record.is_distance + record.is_stderr for record in records), 1e-3))
    # 2 and 5 are written too where the axis is short, or one point would stand between two numbers at most.
    short = max(counts) / min(counts) < 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if short else (1.0,), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_base(axes: Axes, bases: list[ScoreRecord]) -> None:
    """A dashed line for each different base; the runs of one base each bring the same record."""
    distinct = {(record.name, record.is_distance) for record in bases}
    for name, distance in sorted(distinct):
        axes.axhline(distance, color=BASE, linestyle="--", linewidth=1.3)
        axes.annotate(
            f"{name} (0 parameters)  {distance:.3f}",
            xy=(1, distance),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 4),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=BASE,
        )


def _draw_points(axes: Axes, trained: list[ScoreRecord]) -> None:
    taken: list[Bbox] = []
    for record in trained:
        point = (record.parameters, record.is_distance)
        axes.errorbar(
            *point, yerr=record.is_stderr, fmt="o", color=POINT, ecolor=SPREAD, markersize=6, capsize=3
        )
        x, y = axes.transData.transform(point)
        taken.append(Bbox.from_bounds(x - 12, y - 12, 24, 24))
    for record in trained:
        taken.append(_place_label(axes, record, taken))


def _place_label(axes: Axes, record: ScoreRecord, taken: list[Bbox]) -> Bbox:
    """Write the name beside its point where nothing stands yet; if all is full, at the first place."""
    label = axes.annotate(
        f"{record.name}\n{record.parameters:,}",
        xy=(record.parameters, record.is_distance),
        textcoords="offset points",
        xytext=(0, 0),
        fontsize=8.5,
        linespacing=1.15,
    )
    renderer = axes.figure.canvas.get_renderer()
    boxes = []
    for offset, horizontal, vertical in LABEL_PLACES:
        label.set(position=offset, ha=horizontal, va=vertical)
        boxes.append(label.get_window_extent(renderer))
        if not boxes[-1].count_overlaps(taken):
            return boxes[-1]
    offset, horizontal, vertical = LABEL_PLACES[0]
    label.set(position=offset, ha=horizontal, va=vertical)
    return boxes[0]
