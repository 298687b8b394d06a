"""Which scores may share a page, and seeds taken together.

Two scores are compared only if they were measured alike: N, splits, seed and extractor (``ScoreRecord.protocol``),
how the images were drawn (sampler, steps, guidance) and the real images. Runs that were measured in several ways give
several views of one page, with the most common first: a re-scored run must not make the whole page unavailable, and no
chart, front or table ever holds two protocols.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluation.front import pareto_front
from ..evaluation.records import ScoreRecord
from .collect import SCORED, UNSCORED, Collection, Run
from .metrics import METRICS, Metric

_OF_THE_MODEL = {"base", "weights"}  # what is measured, not how
_WORDS = {"real": "real images"}
NO_PROTOCOL = "no run has scores; validation losses only"


@dataclass(frozen=True)
class Estimate:
    """A score over the seeds of a setting."""

    mean: float
    error: float | None
    """Sample standard deviation over seeds; with one seed the score's own standard error, where it has one."""
    count: int


@dataclass(frozen=True)
class Setting:
    """The runs that differ in their seeds alone."""

    name: str
    family: str
    target: str
    parameters: int
    runs: tuple[Run, ...]
    scores: dict[str, Estimate]
    """By metric; those that no run of it has are not there."""


@dataclass(frozen=True)
class View:
    """Everything that was measured by one protocol."""

    protocol: str
    settings: tuple[Setting, ...]
    """Those with a value at least, fewest parameters first."""
    bases: tuple[tuple[str, dict[str, float]], ...]
    """(name, values by metric) of each base."""
    left_out: tuple[tuple[Run, str], ...]
    """Runs that have no place in it, and why."""
    notes: tuple[str, ...] = ()

    def metrics(self) -> list[Metric]:
        """The scores that some setting has."""
        return [
            metric for metric in METRICS if any(metric.key in setting.scores for setting in self.settings)
        ]

    def values(self, metric: Metric) -> list[tuple[Setting, Estimate]]:
        """The settings that have this score."""
        return [(s, s.scores[metric.key]) for s in self.settings if metric.key in s.scores]

    def base_values(self, metric: Metric) -> list[tuple[str, float]]:
        """(name, score) of the bases that have it."""
        return [(name, values[metric.key]) for name, values in self.bases if metric.key in values]

    def front(self, metric: Metric) -> list[tuple[Setting, Estimate]]:
        """The Pareto front of the means; a setting that is worse than no training at all is not on it."""
        points = self.values(metric)
        places = [(setting.parameters, e.mean) for setting, e in points]
        places += [(0, score) for _, score in self.base_values(metric)]
        return [points[i] for i in pareto_front(places, metric.higher_is_better) if i < len(points)]


def protocol_of(record: ScoreRecord) -> str:
    """How a record was measured, in words: equal for two records exactly if they may be compared."""
    how = [
        f"{_WORDS.get(name, name.replace('_', ' '))} {value}"
        for name, value in sorted(record.settings.items())
        if name not in _OF_THE_MODEL
    ]
    return "; ".join([record.protocol, *([", ".join(how)] if how else [])])


def make_views(collection: Collection) -> list[View]:
    """A view a protocol, the one with the most runs first; where nothing is scored, one of losses alone."""
    counted = Counter(
        protocol for run in collection.runs for protocol in {protocol_of(record) for record in run.records}
    )
    protocols = [name for name, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]
    return [_view(collection, protocol) for protocol in protocols or [NO_PROTOCOL]]


def _view(collection: Collection, protocol: str) -> View:
    reason = {run.path: _missing(run, protocol) for run in collection.runs}
    finished = [run for run in collection.runs if run.status in (SCORED, UNSCORED) and run.parameters]
    losses, alike = _comparable_losses(finished)
    groups: dict[tuple, list[Run]] = {}
    for run in finished:
        groups.setdefault((run.target, run.setting, run.family, run.parameters), []).append(run)
    settings = [_setting(runs, protocol, losses) for runs in groups.values()]
    placed = {run.path for setting in settings if setting.scores for run in setting.runs}
    left_out = [(run, why) for run in collection.runs if (why := reason[run.path]) or run.path not in placed]
    notes = [note for run in finished for r in run.records if protocol_of(r) == protocol for note in r.notes]
    if not alike:
        notes.append("Validation losses of runs with other data or other validation settings are left out.")
    return View(
        protocol,
        tuple(sorted((s for s in settings if s.scores), key=lambda s: (s.parameters, s.family, s.name))),
        _bases(collection.bases, protocol),
        tuple(left_out),
        tuple(dict.fromkeys(notes)),
    )


def _missing(run: Run, protocol: str) -> str:
    """Why a run lacks scores in this view; empty if it has them."""
    if run.status != SCORED:
        return run.status
    return "" if any(protocol_of(r) == protocol for r in run.records) else "scored in another way"


def _comparable_losses(runs: Sequence[Run]) -> tuple[dict, bool]:
    """Validation losses by run of those measured on the same images in the most common way; whether that is all."""

    def way(run: Run) -> str:
        settings = run.config.validation
        data = run.config.data.model_dump_json(exclude={"augment", "root", "download"})
        return f"{data} {settings.images} {settings.seed}"

    measured = [run for run in runs if run.val_loss is not None]
    if not measured:
        return {}, True
    common, count = Counter(map(way, measured)).most_common(1)[0]
    return {run.path: run.val_loss for run in measured if way(run) == common}, count == len(measured)


def _setting(runs: Sequence[Run], protocol: str, losses: dict) -> Setting:
    records = [r for run in runs for r in [r for r in run.records if protocol_of(r) == protocol][-1:]]
    scores = {}
    for metric in METRICS:
        if metric.key == "val_loss":
            values, own_error = [losses[run.path] for run in runs if run.path in losses], None
        else:
            values = [v for r in records if (v := getattr(r, metric.key, None)) is not None]
            own_error = records[0].is_stderr if records and metric.key in ("is_distance", "is_mean") else None
        if values:
            scores[metric.key] = estimate(values, own_error)
    first = runs[0]
    return Setting(first.setting, first.family, first.target, first.parameters, tuple(runs), scores)


def estimate(values: Sequence[float], own_error: float | None = None) -> Estimate:
    """Mean and bar of the values of all seeds."""
    error = statistics.stdev(values) if len(values) > 1 else own_error
    return Estimate(statistics.fmean(values), error, len(values))


def _bases(records: Iterable[ScoreRecord], protocol: str) -> tuple[tuple[str, dict[str, float]], ...]:
    """Each different base once, by its own name, without the folders above it."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for record in (record for record in records if protocol_of(record) == protocol):
        values = {m.key: v for m in METRICS if (v := getattr(record, m.key, None)) is not None}
        path = record.settings.get("base") if record.name == "base" else None
        name = str(path).rstrip("/").rpartition("/")[2] if path else record.name
        found[f"{name} {values}"] = (name, values)
    return tuple(found.values())
