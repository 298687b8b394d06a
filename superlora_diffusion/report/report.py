"""``report``: from run folders to a page, plots and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, EvaluationError, nearest
from ..files import write_text
from .collect import Collection, collect
from .compare import View, make_views
from .metrics import BY_KEY, METRICS, Metric

SUFFIXES = {"html": ".html", "png": ".png", "svg": ".svg", "pdf": ".pdf", "csv": ".csv", "latex": ".tex"}
_TITLE = "Quality against trained parameters"


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    out: Path
    formats: tuple[str, ...] = ("html",)
    score: str | None = None
    """The score of plots, and the one a page shows first; None is the first that is there."""
    title: str | None = None
    published: bool = False


@dataclass(frozen=True)
class Material:
    """What every format is made of."""

    collection: Collection
    views: Sequence[View]
    title: str
    metric: Metric | None
    published: bool


def beside(out: Path, name: str) -> Path:
    """``out`` with the ending of the format in place of another format's."""
    out = out.expanduser()
    stem = out.with_suffix("") if out.suffix.lower() in SUFFIXES.values() else out
    return stem.with_name(stem.name + SUFFIXES[name])


def read_formats(text: str | None, out: Path) -> tuple[str, ...]:
    """The formats named, with commas between; without any, the ending of ``out`` tells.

    Raises:
        ConfigError: for a name that is no format.
    """
    if text is None:
        by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
        if out.suffix.lower() not in by_suffix:
            raise ConfigError(
                f"--out {out}: its ending says no format; expected one of {', '.join(by_suffix)}, or --format."
            )
        return (by_suffix[out.suffix.lower()],)
    names = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",")))
    for name in names:
        if name not in SUFFIXES:
            raise ConfigError(
                f"--format: got {name!r}.{nearest(name, SUFFIXES)} Accepted: {', '.join(SUFFIXES)}."
            )
    return names


def write_report(paths: Sequence[str | Path], options: Options) -> dict[str, Any]:
    """Read the runs and write each format beside ``options.out``, with its own ending.

    Returns:
        what ``--json`` prints: the files with their sizes, how many settings and runs, what was left out and why,
        and the Pareto front of the first view.

    Raises:
        RunError: no runs in the paths.
        ConfigError: a score that no run has.
        EvaluationError: a plot or a LaTeX table of runs without any score.
    """
    collection = collect(paths)
    views = make_views(collection)
    metric = choose_metric(views[0], options.score)
    if metric is None and set(options.formats) - {"html", "csv"}:
        raise EvaluationError(
            f"none of the {len(collection.runs)} runs has a score yet, so there is nothing to draw. "
            "Score them first: superlora-diff eval-is RUN..."
        )
    material = Material(collection, views, options.title or _title(collection), metric, options.published)
    files = []
    for name in options.formats:
        path = beside(options.out, name)
        _WRITERS[name](path, material)
        files.append({"format": name, "path": str(path), "bytes": path.stat().st_size})
    return {"files": files, **_summary(collection, views, metric)}


def choose_metric(view: View, key: str | None) -> Metric | None:
    """The score asked for, or the first there is; None if there is none at all.

    Raises:
        ConfigError: unknown, or nothing in the view has it.
    """
    there = view.metrics()
    if key is None:
        return there[0] if there else None
    if key not in BY_KEY:
        known = [metric.key for metric in METRICS]
        raise ConfigError(f"--score: got {key!r}.{nearest(key, known)} Accepted: {', '.join(known)}.")
    if BY_KEY[key] not in there:
        found = ", ".join(metric.key for metric in there) or "none"
        raise ConfigError(
            f"--score: no run has {key}; found: {found}. Score them with superlora-diff eval-is."
        )
    return BY_KEY[key]


def _title(collection: Collection) -> str:
    sweeps = list(dict.fromkeys(run.sweep for run in collection.runs if run.sweep))
    return f"{_TITLE}: {', '.join(sweeps)}" if sweeps else _TITLE


def _summary(collection: Collection, views: Sequence[View], metric: Metric | None) -> dict[str, Any]:
    view = views[0]
    front = view.front(metric) if metric is not None else []
    return {
        "runs": len(collection.runs),
        "settings": len(view.settings),
        "protocols": [view.protocol for view in views],
        "left_out": [{"run": str(run.path), "why": why} for run, why in view.left_out],
        "score": metric.key if metric else None,
        "front": [{"setting": s.name, "parameters": s.parameters, "score": e.mean} for s, e in front],
    }


def _write_html(path: Path, material: Material) -> None:
    from .page import render_page

    score = material.metric.key if material.metric else None
    runs = material.collection.runs
    write_text(path, render_page(material.title, material.views, runs, material.published, score))


def _write_plot(path: Path, material: Material) -> None:
    from ..evaluation.chart import save_chart
    from .static import static_chart

    save_chart(static_chart(material.views[0], material.metric, material.title, material.published), path)


def _write_csv(path: Path, material: Material) -> None:
    from .tables import write_csv

    write_text(path, write_csv(material.collection.runs))


def _write_latex(path: Path, material: Material) -> None:
    from .tables import write_latex

    write_text(path, write_latex(material.views[0], material.title))


_WRITERS: dict[str, Callable[..., None]] = {
    "html": _write_html, "png": _write_plot, "svg": _write_plot, "pdf": _write_plot, "csv": _write_csv,
    "latex": _write_latex,
}  # fmt: skip
