"""Scores while a run trains, and the best step so far."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError
from ..evaluation.notes import missing_notes
from ..evaluation.protocol import make_protocol, score_model
from ..evaluation.scores import Scores
from ..files import write_folder_atomically, write_json
from ..models.base import Base
from ..runs.config import BEST_BY, METRICS, RunConfig
from .setup import Trainee

BEST_FILE = "best.json"


class IntervalScores:
    """Scores the model that trains as ``eval-is`` would, from fewer images."""

    def __init__(self, config: RunConfig, base: Base, device: torch.device) -> None:
        """Everything that can be wrong is told now, before the first step.

        Raises:
            ConfigError: the score that decides about the best step cannot be measured.
            EvaluationError, DataError: as scoring would.
        """
        asked = config.evaluation
        metrics = {*asked.metrics, BEST_BY[asked.best_by].metric} - {None}
        self.metrics = tuple(metric for metric in METRICS if metric in metrics)
        settings = asked.model_copy(update={"images": asked.interval_images, "metrics": self.metrics})
        self.protocol = make_protocol(base, config, settings, device=device)
        n, labelled = len(self.protocol.reference), self.protocol.classes is not None
        missing = missing_notes(self.metrics, n, labelled, self.protocol.extractor)
        if BEST_BY[asked.best_by].metric in missing:
            text = f"got {asked.best_by!r}: {missing[BEST_BY[asked.best_by].metric]}; name another score."
            raise ConfigError(faults=[("evaluation.best_by", text)])
        self._told: set[str] = set()

    def new_notes(self, scores: Scores) -> list[str]:
        """What weakens the scores and was not told before."""
        new = [note for note in scores.notes if note not in self._told]
        self._told.update(new)
        return new

    @property
    def measured(self) -> str:
        """How, in words; scores measured otherwise are not compared."""
        found, settings = self.protocol, self.protocol.settings
        sampling = found.sampling.model_dump(mode="json", exclude={"batch_size"})
        drawn = ", ".join(f"{key} {value}" for key, value in sampling.items())
        return (
            f"N {len(found.reference)}, {settings.splits} splits, seed {settings.seed}, extractor "
            f"{found.extractor.name} {found.extractor.hash}, real {found.real.content_hash[:12]}, {drawn}"
        )

    def measure(self, trainee: Trainee) -> Scores:
        """The scores of the model as it stands; every process of a distributed run takes part."""
        adapter = trainee.adapter
        with nullcontext() if adapter is None else adapter.cached():
            return score_model(trainee.base, self.protocol, self.metrics)


def numbers_of(scores: Scores) -> dict[str, float]:
    """The scores themselves, for a line of metrics."""
    names = ("is_mean", "is_distance", "fid", "kid", "precision", "recall", "accuracy")
    found = {name: getattr(scores, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Best:
    """The best step so far."""

    step: int
    by: str
    """Which score decided."""
    score: float
    measured: str
    """How, in words: scores that were measured otherwise are not compared."""
    scores: dict[str, float]
    """All scores of that step."""

    def beats(self, other: Best | None) -> bool:
        """Whether this one takes the other's place; the earlier of two alike stays."""
        if other is None or (other.by, other.measured) != (self.by, self.measured):
            return True
        return self.score > other.score if BEST_BY[self.by].higher else self.score < other.score

    def __str__(self) -> str:
        return f"step {self.step}, {self.by} {self.score:.5g}"


def read_best(folder: Path) -> Best | None:
    """What :func:`keep_best` last wrote into a ``best`` folder; None if there is nothing that can be read."""
    try:
        return Best(**json.loads((folder / BEST_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def keep_best(folder: Path, found: Best, write: Callable[[Path], Any]) -> bool:
    """If ``found`` beats what the folder holds, let ``write`` fill it anew, whole or not at all."""
    if not found.beats(read_best(folder)):
        return False

    def fill(partial: Path) -> None:
        write(partial)
        write_json(partial / BEST_FILE, asdict(found))

    write_folder_atomically(folder, fill)
    return True
