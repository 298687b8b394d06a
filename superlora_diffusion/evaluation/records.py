"""Score records and `scores.json`, a plain JSON list of them. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.files import write_text
from superlora_diffusion.runs.config import Metric

if TYPE_CHECKING:
    from superlora_diffusion.evaluation.scores import Scores

Interval = tuple[float, float]
CLASSIFIED = "itself"
"""The extractor of a record of a classifier: there is none, and its hash is that of the images."""


class ScoreRecord(BaseModel):
    """One scored model: an adapter, or the base (0 parameters). Fields shared with `Scores` mean the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    parameters: int = Field(ge=0)
    """Trained numbers; 0 for the base."""
    is_mean: float | None = None
    is_std: float | None = None
    is_stderr: float | None = None
    is_interval: Interval | None = None
    is_real: float | None = None
    is_real_std: float | None = None
    is_distance: float | None = None
    is_distance_interval: Interval | None = None
    fid: float | None = None
    fid_interval: Interval | None = None
    kid: float | None = None
    kid_std: float | None = None
    kid_subset_size: int | None = None
    kid_interval: Interval | None = None
    precision: float | None = None
    precision_interval: Interval | None = None
    recall: float | None = None
    recall_interval: Interval | None = None
    accuracy: float | None = None
    accuracy_interval: Interval | None = None
    metrics: tuple[Metric, ...] = ("is", "fid", "accuracy")
    """What was asked for; by default what records had before they said so."""
    n: int
    splits: int
    shuffle: bool = True
    seed: int
    extractor: str
    extractor_hash: str
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)
    """How the images were drawn (sampler, steps, guidance, ...): JSON values."""
    libraries: dict[str, str | None] = Field(default_factory=dict)
    """Versions of what drew and scored."""

    @classmethod
    def from_scores(
        cls,
        name: str,
        parameters: int,
        scores: Scores,
        settings: dict[str, Any] | None = None,
        libraries: dict[str, str | None] | None = None,
    ) -> ScoreRecord:
        """The record of one `Scores`."""
        values = {"settings": settings or {}, "libraries": libraries or {}, **vars(scores)}
        return cls(name=name, parameters=parameters, **values)

    @property
    def protocol(self) -> str:
        """What two records must share to be compared, as it is printed under tables and plots."""
        if self.extractor == CLASSIFIED:
            return f"N {self.n:,} images {self.extractor_hash}, classified by the model itself"
        shuffle = "shuffled" if self.shuffle else "not shuffled"
        return (
            f"N {self.n:,}, {self.splits} splits, {shuffle}, seed {self.seed}, "
            f"extractor {self.extractor} {self.extractor_hash}"
        )

    def same_measurement(self, other: ScoreRecord) -> bool:
        """Whether one replaces the other: the same model drawn and scored in the same way.

        The extractor's hash is left out on purpose: scores by weights no longer used are stale.
        """
        return self._key() == other._key()

    def _key(self) -> tuple[Any, ...]:
        settings = json.dumps(self.settings, sort_keys=True)
        return (self.name, settings, self.extractor, self.n, self.splits, self.seed)


def write_scores(path: str | Path, records: Iterable[ScoreRecord]) -> list[ScoreRecord]:
    """Add the records to the file, each in place of an earlier one of the same measurement; returns all.

    The file is written beside itself and renamed: a reader sees the old list or the new one.

    Raises:
        EvaluationError: the file holds something else.
        SuperLoRAError: it cannot be written.
    """
    path = Path(path)
    merged = read_scores(path) if path.exists() else []
    for record in records:
        places = [index for index, old in enumerate(merged) if record.same_measurement(old)]
        if places:
            merged[places[0]] = record
        else:
            merged.append(record)
    text = json.dumps([record.model_dump(mode="json") for record in merged], indent=2, allow_nan=False)
    write_text(path, text + "\n")
    return merged


def read_scores(path: str | Path) -> list[ScoreRecord]:
    """The records in a `scores.json`.

    Raises:
        EvaluationError: it is missing, is no JSON list, or an entry is no score record.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{path}: no scores could be read ({error}). Expected a JSON list; run `superlora-diff eval-is` "
            "first, or delete a damaged file."
        ) from error
    if not isinstance(entries, list):
        raise EvaluationError(
            f"{path}: holds a {type(entries).__name__}, expected a list of records. Delete it."
        )
    return [_parse(path, index, entry) for index, entry in enumerate(entries)]


def _parse(path: Path, index: int, entry: Any) -> ScoreRecord:
    try:
        return ScoreRecord.model_validate(entry)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise EvaluationError(
            f"{path}: entry {index} is no score record ({faults}). Run `superlora-diff eval-is` again after "
            "deleting the file."
        ) from error
