"""Curves of validation loss against learning rate: each setting's own best, and the best single rate of a rule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from superlora_diffusion.files import write_atomically, write_text

COLUMNS = {
    "setting": str, "step": str, "parameters": int, "learning_rate": float, "steps": int, "seed": int,
    "val_loss": float,
}  # fmt: skip

Curve = dict[float, float]
"""{learning rate: validation loss, mean over seeds}; inf where one diverged."""
Curves = dict[str, dict[str, Curve]]
"""{rule: {setting: its curve}}."""


class Row(NamedTuple):
    """A run: a line of rates.csv."""

    setting: str
    step: str
    """The rule: plain, rms or gain."""
    parameters: int
    learning_rate: float
    steps: int
    seed: int
    val_loss: float


class Single(NamedTuple):
    """The single rate of a rule whose worst excess over the settings' own best is least."""

    rate: float
    excess: dict[str, float]
    """{setting: loss at this rate / its own best - 1}."""

    @property
    def worst(self) -> float:
        return max(self.excess.values())


def curves_of(rows: Sequence[Row]) -> Curves:
    """Curves over the rates at which a setting has every seed that it has anywhere."""
    losses: dict[tuple[str, str], dict[float, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        losses[row.step, row.setting][row.learning_rate][row.seed] = row.val_loss
    curves: Curves = defaultdict(dict)
    for (rule, setting), by_rate in losses.items():
        seeds = set().union(*by_rate.values())
        curves[rule][setting] = {
            rate: math.fsum(found.values()) / len(found)
            for rate, found in sorted(by_rate.items())
            if found.keys() == seeds
        }
    return dict(curves)


def best_of(curve: Curve) -> tuple[float, float]:
    """(rate, loss), the lower rate of equal ones; (nan, inf) where nothing was measured."""
    return min(curve.items(), key=lambda point: (point[1], point[0]), default=(math.nan, math.inf))


def single_rate(curves: Mapping[str, Curve], best: Mapping[str, float]) -> Single | None:
    """The rate that all settings have and that is the least bad for the one it suits worst; None if there is none.

    Args:
        curves: of one rule.
        best: the loss that each setting is measured by.
    """
    common = set.intersection(*(set(curve) for curve in curves.values())) if curves else set()
    found = [
        Single(rate, {name: excess(curve[rate], best[name]) for name, curve in curves.items()})
        for rate in sorted(common)
    ]
    return min(found, key=lambda single: single.worst, default=None)


def excess(loss: float, best: float) -> float:
    """loss / best - 1; inf where the run, or all of them, diverged."""
    return loss / best - 1 if math.isfinite(best) else math.inf


def summarise(rows: Sequence[Row], out: Path) -> str:
    """Write curves.png and summary.md into a folder.

    Returns:
        the text of summary.md.
    """
    curves = curves_of(rows)
    counts = {row.setting: row.parameters for row in rows}
    overall = {
        name: min(best_of(mine[name])[1] for mine in curves.values() if name in mine) for name in counts
    }
    text = "\n".join(part for rule, mine in curves.items() for part in _lines(rule, mine, counts, overall))
    write_text(out / "summary.md", text + "\n")
    draw(curves, out / "curves.png")
    return text


def _lines(rule: str, curves: dict[str, Curve], counts: Mapping[str, int], overall: Mapping[str, float]):
    own = {name: best_of(curve) for name, curve in curves.items()}
    single = single_rate(curves, {name: loss for name, (_, loss) in own.items()})
    yield f"## step {rule}\n"
    if single is None:
        yield "No rate was measured for all settings.\n"
    else:
        any_rule = max(excess(curve[single.rate], overall[name]) for name, curve in curves.items())
        yield (
            f"The best single rate is {single.rate:g}: at most {_percent(single.worst)} above each setting's own best, "
            f"{_percent(any_rule)} above its best under any step.\n"
        )
    yield "| setting | parameters | own best rate | own best loss | loss at the single rate | excess |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name in sorted(curves, key=lambda name: -counts[name]):
        rate, loss = own[name]
        edge = (
            " (at the edge)" if rate in (min(curves[name], default=0), max(curves[name], default=0)) else ""
        )
        at = "" if single is None else f"{curves[name][single.rate]:.5f}"
        above = "" if single is None else _percent(single.excess[name])
        yield f"| {name} | {counts[name]:,} | {rate:g}{edge} | {loss:.5f} | {at} | {above} |"
    yield ""


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def draw(curves: Curves, path: Path) -> None:
    """A panel a rule, a curve a setting, its best marked, the single rate as a line. What diverged is left out."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(curves) + 1.4, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(name for mine in curves.values() for name in mine))
    colours = dict(zip(names, colormaps["tab20"].colors, strict=False))
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (rule, mine) in zip(panels, curves.items(), strict=True):
        _draw_panel(axes, rule, mine, colours)
    best = [
        loss
        for mine in curves.values()
        for curve in mine.values()
        if math.isfinite(loss := best_of(curve)[1])
    ]
    if best:
        panels[0].set_ylim(min(best) * 0.97, max(best) * 1.5)
    panels[0].set_ylabel("validation loss")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    write_atomically(path, lambda partial: figure.savefig(partial, format="png"))


def _draw_panel(axes, rule: str, curves: dict[str, Curve], colours: Mapping[str, tuple]) -> None:
    for name, curve in curves.items():
        points = {rate: loss for rate, loss in curve.items() if math.isfinite(loss)}
        axes.plot(list(points), list(points.values()), "-o", ms=2.5, lw=1.2, color=colours[name], label=name)
        if points:
            axes.plot(*best_of(points), "o", ms=6, mfc="none", color=colours[name])
    single = single_rate(curves, {name: best_of(curve)[1] for name, curve in curves.items()})
    if single is not None:
        axes.axvline(single.rate, color="#8a939c", lw=1, ls="--")
    axes.set(xscale="log", yscale="log", xlabel="learning rate", title=f"step: {rule}")
    axes.grid(alpha=0.2, which="both")
