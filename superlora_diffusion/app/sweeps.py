"""A sweep's settings as points of score against parameters, each with the run to draw from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ..errors import EvaluationError
from ..report.collect import collect
from ..report.compare import Estimate, Setting, View, make_views
from ..report.metrics import Metric
from ..report.report import choose_metric


@dataclass(frozen=True)
class Point:
    """One setting."""

    name: str
    family: str
    parameters: int
    score: float
    error: float | None
    on_front: bool
    """Whether no other setting beats it in both parameters and score."""
    run: Path
    """The run to draw from: its lowest seed."""
    target: str = ""


@dataclass(frozen=True)
class Front:
    """What a folder of runs holds, by one score."""

    folder: str
    metric: Metric
    metrics: tuple[Metric, ...]
    """All scores there are to choose from."""
    points: tuple[Point, ...]
    """Fewest parameters first."""
    bases: tuple[tuple[str, float], ...]
    """(name, score) of the bases without training."""
    protocol: str
    notes: tuple[str, ...] = ()

    @property
    def stair(self) -> list[Point]:
        """The points of the front, fewest parameters first."""
        return [point for point in self.points if point.on_front]


def read_front(folder: str, score: str | None = None) -> Front:
    """Read the runs of a sweep's folder, or of any folder that holds runs.

    Args:
        folder: where they are.
        score: the key of a score; None for the first there is.

    Raises:
        RunError: if the folder is missing or holds no run.
        ConfigError: for a score that no run has.
        EvaluationError: if no run has a score, nor a validation loss.
    """
    collection = collect([folder.strip()])
    views = make_views(collection)
    view = views[0]
    metric = choose_metric(view, score)
    if metric is None:
        raise EvaluationError(
            f"none of the {len(collection.runs)} runs in {folder} is finished and has a score. Score them first: "
            "superlora-diff eval-is RUN..."
        )
    return Front(
        folder=folder.strip(),
        metric=metric,
        metrics=tuple(view.metrics()),
        points=tuple(_points(view, metric)),
        bases=tuple(view.base_values(metric)),
        protocol=view.protocol,
        notes=_notes(views),
    )


def _points(view: View, metric: Metric) -> list[Point]:
    front = {id(setting) for setting, _ in view.front(metric)}
    found = [_point(setting, e, id(setting) in front) for setting, e in view.values(metric)]
    return [point for point in found if math.isfinite(point.score)]


def _point(setting: Setting, e: Estimate, on_front: bool) -> Point:
    first = min(setting.runs, key=lambda run: (run.seed or 0, str(run.path)))
    return Point(
        setting.name,
        setting.family,
        setting.parameters,
        e.mean,
        e.error,
        on_front,
        first.path,
        setting.target,
    )


def _notes(views: list[View]) -> tuple[str, ...]:
    notes = []
    if len(views) > 1:
        notes.append(
            f"The runs were scored in {len(views)} ways; this is the most common one. superlora-diff report shows all."
        )
    if left_out := len(views[0].left_out):
        notes.append(f"{left_out} runs are not shown: unfinished, or not scored like this.")
    return tuple(notes)
