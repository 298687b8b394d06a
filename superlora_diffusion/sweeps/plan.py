"""A sweep's cells with what they cost, and the jobs that make them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.loading import load_image_set
from ..errors import ConfigError, SuperLoRAError
from ..evaluation.extractors import load_extractor
from ..models.base import Base
from ..models.classifier import Classifier
from ..runs.config import RunConfig
from ..runs.family import family_of
from ..training.plan import count_head, count_trained
from ..training.setup import load_or_build_base
from .cells import Cell, list_cells
from .config import SweepConfig
from .folder import SweepFolder
from .jobs import Job
from .race import race_key


@dataclass(frozen=True)
class PlannedCell:
    """A cell and how many numbers it trains; None with an error where its method refuses the network."""

    cell: Cell
    parameters: int | None
    error: str | None = None
    head_parameters: int = 0
    """Of a classifier's head that trains beside them."""


def plan_sweep(sweep: SweepConfig) -> list[PlannedCell]:
    """All cells within the budget, with their counts.

    Raises:
        ConfigError: for faulty settings, or a budget that none fits.
        BaseModelError: if a base cannot be loaded.
    """
    bases: dict[str, Base | Classifier] = {}
    counts: dict[str, tuple[int | None, str | None, int]] = {}
    planned = []
    for cell in list_cells(sweep):
        if cell.setting not in counts:
            counts[cell.setting] = _count(cell.config, bases)
        planned.append(PlannedCell(cell, *counts[cell.setting]))
    if sweep.budget is None:
        return planned
    least, most = sweep.budget
    kept = [item for item in planned if item.parameters is None or least <= item.parameters <= most]
    if not kept:
        known = sorted({count for count, *_ in counts.values() if count is not None})
        raise ConfigError(
            f"no setting trains {least:,.0f} to {most:,.0f} numbers; the settings train {known[0]:,} to {known[-1]:,}. "
            "Change budget or the settings."
        )
    return kept


def check_inputs(sweep: SweepConfig, planned: Sequence[PlannedCell]) -> None:
    """Look once at every data set and extractor that cells name, before the first of them runs.

    Raises:
        DataError, EvaluationError, ConfigError: for what is missing or unknown.
    """
    seen = set()
    for item in planned:
        config = item.cell.config
        told = config.evaluation
        data, extractor = (
            config.data.model_dump_json(),
            (told.extractor, told.extractor_path, config.data.name),
        )
        if data not in seen:
            images = load_image_set(config.data, "test")
        if sweep.score and not config.classifies and (data, extractor) not in seen:
            load_extractor(*extractor, class_names=images.class_names)
        seen |= {data, (data, extractor)}


def _count(config: RunConfig, bases: dict[str, Base | Classifier]) -> tuple[int | None, str | None, int]:
    parts = (config.base, config.data, config.classification)
    key = json.dumps([config.task, *(part.model_dump(mode="json") for part in parts)])
    if key not in bases:
        bases[key] = load_or_build_base(config)
    try:
        return count_trained(config, bases[key]), None, count_head(config, bases[key])
    except SuperLoRAError as error:
        return None, str(error), 0


def make_jobs(sweep: SweepConfig, planned: Sequence[PlannedCell]) -> list[Job]:
    """The jobs in order: each setting's race, then its cells. Cells that cannot be counted have none."""
    folder, jobs, raced = SweepFolder(sweep.output), [], set()
    for item in planned:
        if item.error is not None:
            continue
        cell, race = item.cell, f"{item.cell.setting} learning rate"
        common = {
            "config": cell.config.model_dump(mode="json"),
            "race": folder.race(cell.setting) / race_key(cell.config, sweep.learning_rate)
            if sweep.learning_rate
            else folder.race(cell.setting),
            "search": sweep.learning_rate,
            "bases": folder.bases,
        }
        if sweep.learning_rate is not None and cell.setting not in raced:
            raced.add(cell.setting)
            jobs.append(Job(race, "race", **common))
        needs = (race,) if sweep.learning_rate is not None else ()
        jobs.append(Job(cell.name, "cell", **common, score=sweep.score, card=_card(sweep, item), needs=needs))
    return jobs


def _card(sweep: SweepConfig, item: PlannedCell) -> dict:
    config = item.cell.config
    return {
        "sweep": SweepFolder(sweep.output).path.name,
        "setting": item.cell.setting,
        "family": family_of(config),
        "target": config.data.name,
        "seed": item.cell.seed,
        "parameters": item.parameters,
        **({"head_parameters": item.head_parameters} if config.classifies else {}),
    }
