"""Records of ``eval-acc`` and their file, a plain JSON list beside ``scores.json``. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.records import CLASSIFIED, ScoreRecord
from superlora_diffusion.files import write_json

Interval = tuple[float, float]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClassAccuracy(_Record):
    """Of the images of one class."""

    name: str
    accuracy: float
    n: int


class AccuracyRecord(_Record):
    """One scored classifier."""

    name: str
    """``base``, or the run's, the adapter's or the classifier's own."""
    parameters: int = Field(ge=0)
    """Trained numbers without the head's; 0 for a base."""
    head_parameters: int = Field(ge=0)
    """Numbers of the head that trained beside them."""
    accuracy: float
    """Share of the images whose likeliest class is the right one."""
    accuracy_interval: Interval
    """95 %, Wilson's: how far it would move if other images of the same kind were classified."""
    loss: float
    """Mean cross entropy."""
    n: int
    """Images."""
    classes: tuple[ClassAccuracy, ...]
    """Those that have images."""
    data: str
    data_hash: str
    base: str
    weights: str
    """Digest of what was scored, by which a record of other weights is known."""
    libraries: dict[str, str | None] = Field(default_factory=dict)

    def measures(self, name: str, weights: str, base: str, data_hash: str) -> bool:
        """Whether it is the record of these weights on these images."""
        return (self.name, self.weights, self.base, self.data_hash) == (name, weights, base, data_hash)

    def as_score(self) -> ScoreRecord:
        """The same as a report reads it, beside the scores of images."""
        return ScoreRecord(
            name=self.name,
            parameters=self.parameters,
            accuracy=self.accuracy,
            accuracy_interval=self.accuracy_interval,
            metrics=("accuracy",),
            n=self.n,
            splits=1,
            seed=0,
            extractor=CLASSIFIED,
            extractor_hash=self.data_hash,
            settings={"base": self.base, "weights": self.weights},
            libraries=self.libraries,
        )


def write_accuracies(path: Path, records: Iterable[AccuracyRecord]) -> list[AccuracyRecord]:
    """Add records to the file, each in place of an earlier one of the same model on the same images; returns all.

    Raises:
        EvaluationError: the file holds something else.
    """
    merged = read_accuracies(path) if path.is_file() else []
    for record in records:
        merged = [old for old in merged if (old.name, old.data_hash) != (record.name, record.data_hash)]
        merged.append(record)
    write_json(path, [record.model_dump(mode="json") for record in merged])
    return merged


def read_accuracies(path: Path) -> list[AccuracyRecord]:
    """The records in a file.

    Raises:
        EvaluationError: if it is missing or holds something else.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [AccuracyRecord.model_validate(entry) for entry in entries]
    except (OSError, ValueError, TypeError) as error:
        text = (
            str(error).splitlines()[0] if not isinstance(error, ValidationError) else "an entry is no record"
        )
        raise EvaluationError(
            f"{path}: no accuracies could be read ({text}). Expected a JSON list that `superlora-diff eval-acc` wrote; "
            "delete a damaged file."
        ) from error
