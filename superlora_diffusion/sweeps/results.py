"""What a finished cell says of itself: one row of the results table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import BaseModelError
from ..evaluation.accuracy_records import read_accuracies
from ..evaluation.records import ScoreRecord, read_scores
from ..models.families.family import Family
from ..models.families.pixels import FAMILY as PIXELS
from ..models.shapes import network_family
from ..runs.config import EXTRACTORS, RunConfig
from ..runs.family import family_of
from ..runs.folder import RunFolder
from ..sampling.config import SamplingSettings
from .folder import CARD

SCORES = ("is_distance", "is_mean", "is_stderr", "fid", "kid", "precision", "recall", "accuracy")
HEAD = ("head_parameters",)
"""Numbers of a classifier's head that trained beside those of the method."""
RACE = ("race_steps", "race_seconds")
"""What the setting's learning-rate search cost; the seeds share it."""
COLUMNS = (
    "setting", "family", "target", "parameters", "seed", "lr", "steps", "val_loss", "is_distance", "fid", "kid",
    "accuracy",
)  # fmt: skip

Row = dict[str, Any]


def read_row(run: Path) -> Row | None:
    """The row of a finished run; None if it is not finished. Scores it lacks are None."""
    folder = RunFolder(run)
    if not folder.config.is_file():
        return None
    config = folder.read_config()
    if not folder.is_finished(config):
        return None
    card = read_card(run)
    scores = own_accuracy(folder, config) if config.classifies else own_scores(folder, config)
    return {
        "setting": card.get("setting", run.resolve().name),
        "family": family_of(config),
        "target": config.data.name,
        "parameters": card.get("parameters", scores.get("parameters")),
        "seed": config.seed,
        "lr": config.learning_rate,
        "steps": config.train.steps,
        "val_loss": last_validation_loss(run),
        **{name: scores.get(name) for name in SCORES},
        "head_parameters": scores.get("head_parameters", card.get("head_parameters")),
        **{name: card.get(name) for name in RACE},
    }


def own_scores(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """The record of the run itself that was measured as its config says; empty if there is none."""
    if not folder.scores.is_file():
        return {}
    name = folder.path.resolve().name
    sampling = config.sampling.filled(_base_family(config).sampling)
    records = [record for record in read_scores(folder.scores) if record.name == name]
    own = [record for record in records if _as_told(record, config, sampling)]
    best = max(own, key=lambda record: record.n, default=None)
    return {} if best is None else best.model_dump(mode="json")


def own_accuracy(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """The record of the run itself on its own data; empty if there is none."""
    if not folder.accuracy.is_file():
        return {}
    name = folder.path.resolve().name
    records = [record for record in read_accuracies(folder.accuracy) if record.name == name]
    own = [record for record in records if record.data == config.data.name]
    return own[-1].model_dump(mode="json") if own else {}


def _as_told(record: ScoreRecord, config: RunConfig, sampling: SamplingSettings) -> bool:
    """Whether a record's protocol is the config's. There may be fewer real images than were asked for."""
    told, drawn = config.evaluation, sampling.as_measured()
    guidance = record.settings.get("guidance_scale")
    if guidance == 1:  # a base without a null class is drawn without guidance, whatever was asked
        drawn["guidance_scale"] = guidance
    return (
        (record.splits, record.seed) == (told.splits, told.seed)
        and record.n <= told.images
        and (told.extractor in ("auto", record.extractor) or told.extractor not in EXTRACTORS)
        and record.settings.get("precision", "fp32") == config.sampling.precision
        and all(record.settings.get(key) == value for key, value in drawn.items())
    )


def _base_family(config: RunConfig) -> Family:
    """The family of a run's base; that of networks on pixels where the base is gone since."""
    try:
        return network_family(config.base)
    except BaseModelError:
        return PIXELS


def read_card(run: Path) -> dict[str, Any]:
    """What the sweep wrote beside its cell; empty for a run of no sweep."""
    try:
        return json.loads((run / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def scoring_of(config: RunConfig) -> dict[str, Any]:
    """How a run is scored: a cell whose card says so need not be scored again."""
    if config.classifies:
        return {"task": config.task}
    return {name: getattr(config, name).model_dump(mode="json") for name in ("evaluation", "sampling")}


def last_validation_loss(run: Path) -> float | None:
    """The last validation loss a run measured, None if it measured none."""
    lines = map(json.loads, RunFolder(run).metrics.read_text(encoding="utf-8").splitlines())
    losses = [line["validation_loss"] for line in lines if "validation_loss" in line]
    return losses[-1] if losses else None
