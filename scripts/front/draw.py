"""front.png: a panel a measure against parameters; LoRA's line, the lower envelope of ours, the others as points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from superlora_diffusion.evaluation.front import pareto_front
from superlora_diffusion.files import write_atomically

from .page import WORDS
from .ratios import MEASURES, Setting, known_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = {"lora": ("LoRA", "#b5482a", "s"), "superlora": ("ours", "#1f5fa8", "o"),
          "peer": ("peers", "#5a8a3c", "^"), "baseline": ("baselines", "#5a5a5a", "D")}  # fmt: skip


def line_of(settings: Sequence[Setting], family: str, measure: str) -> list[Setting]:
    """What a family's line goes through: LoRA's ranks all, of ours the lower envelope alone, of others nothing."""
    mine = [one for one in settings if one.family == family and known_number(one.means.get(measure))]
    if family == "lora":
        return sorted(mine, key=lambda one: one.parameters)
    if family != "superlora":
        return []
    return [mine[index] for index in pareto_front([(one.parameters, one.means[measure]) for one in mine])]


def draw_front(settings: Sequence[Setting], base: Mapping[str, float | None], caption: str) -> Figure:
    """The figure; a setting without a measure is not in its panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(18, 6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(MEASURES))
    for axes, measure in zip(panels, MEASURES, strict=True):
        _prepare(axes, settings, measure, base.get(measure))
        for family in STYLES:
            _draw_family(axes, settings, family, measure)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.supxlabel(caption, fontsize=8, parse_math=False)
    figure.draw_without_rendering()  # fixes the layout, so that labels know where the points are
    for axes, measure in zip(panels, MEASURES, strict=True):
        _label(axes, settings, measure)
    return figure


def save_front(
    settings: Sequence[Setting], base: Mapping[str, float | None], caption: str, path: Path
) -> None:
    """Draw into a PNG file."""
    figure = draw_front(settings, base, caption)
    write_atomically(path, lambda partial: figure.savefig(partial, format="png"))


def _prepare(axes: Axes, settings: Sequence[Setting], measure: str, base: float | None) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    # The base is told in words: its line would squeeze all settings into a strip.
    told = f"; base {base:.4g}" if known_number(base) else ""
    axes.set(xscale="log", xlabel="trained parameters", title=f"{WORDS[measure]} (lower is better{told})")
    known = [one.means[measure] for one in settings if known_number(one.means.get(measure))]
    if known and min(known) > 0:  # a logarithm shows ratios; a distance of 0 has none
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0), numticks=50))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    counts = [one.parameters for one in settings if one.parameters > 0]
    axes.set_xlim(min(counts) / 3, max(counts) * 4)
    axes.grid(alpha=0.2, which="both")


def _draw_family(axes: Axes, settings: Sequence[Setting], family: str, measure: str) -> None:
    name, colour, marker = STYLES[family]
    mine = [one for one in settings if one.family == family and known_number(one.means.get(measure))]
    line = line_of(settings, family, measure)
    if line:
        places = [(one.parameters, one.means[measure]) for one in line]
        axes.plot(*zip(*places, strict=True), color=colour, lw=1.4, gid=f"line-{family}")
    for one in mine:
        faint = family == "superlora" and one not in line
        axes.errorbar(
            one.parameters, one.means[measure], yerr=one.deviations.get(measure), fmt=marker, color=colour,
            ms=5, capsize=2, elinewidth=0.8, alpha=0.4 if faint else 1, gid=f"point-{one.name}",
        )  # fmt: skip
    axes.plot([], [], marker, ls="-" if line else "", color=colour, label=name)


def _label(axes: Axes, settings: Sequence[Setting], measure: str) -> None:
    """Names beside the points where there is room; of ours those on the line alone."""
    from matplotlib.transforms import Bbox

    from superlora_diffusion.evaluation.chart import Point, place_label

    shown = [one for one in settings if known_number(one.means.get(measure)) and one.parameters > 0]
    envelope = line_of(settings, "superlora", measure)
    inside = axes.get_window_extent()
    taken = [Bbox.from_extents(0, 0, inside.x0, inside.y1), Bbox.from_extents(inside.x0, 0, inside.x1, inside.y0),
             Bbox.from_extents(inside.x1, 0, 1e5, 1e5), Bbox.from_extents(0, inside.y1, 1e5, 1e5)]  # fmt: skip
    for one in shown:
        x, y = axes.transData.transform((one.parameters, one.means[measure]))
        taken.append(Bbox.from_bounds(x - 6, y - 6, 12, 12))
    for one in shown:
        if one.family != "superlora" or one in envelope:
            box = place_label(axes, Point(one.name, one.parameters, one.means[measure]), taken, must=False)
            taken += [] if box is None else [box]
