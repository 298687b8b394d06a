"""The learning-rate search inside a sweep: hill climbing over short runs, on the validation loss."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ..errors import DivergedError, RunError
from ..files import write_json
from ..runs.config import RunConfig
from ..runs.folder import what_trains
from .config import LearningRateSearch
from .results import last_validation_loss

RESULT, TRY = "race.json", "try.json"


class RaceResult(BaseModel):
    """What a race found, and what it cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float
    """The winner."""
    tried: dict[float, float | None]
    """Validation loss by learning rate; None where the run diverged."""
    steps: int
    """Optimiser steps of all tries."""
    seconds: float
    """Time spent on all tries, whenever they were made."""


class Try(BaseModel):
    """One short run; its loss is None where it diverged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: float | None
    seconds: float


def next_rate(
    losses: Mapping[float, float],
    start: float,
    search: LearningRateSearch,
    untrained: float = math.inf,
) -> float | None:
    """The rate to try next; None when the best rate and the one to be chosen have neighbours, or tries are used up.

    Rates lie on the ladder start * factor^k.

    Args:
        losses: validation loss by rate; infinite where the run diverged.
        start: the first rate.
        search: factor, tolerance and most tries.
        untrained: validation loss before training.
    """
    places = {round(math.log(rate / start, search.factor)): loss for rate, loss in losses.items()}
    if len(places) >= search.max_tries:
        return None
    for place in (0, 1, -1):
        if place not in places:
            return _rung(start, search.factor, place)
    best = min(places, key=lambda place: (places[place], place))
    if math.isinf(places[best]):
        return _rung(start, search.factor, min(places) - 1)  # all diverged: only lower can help
    chosen = choose(places, search.tolerance, untrained)
    missing = [place for place in (best - 1, best + 1, chosen - 1) if place not in places]
    return _rung(start, search.factor, missing[0]) if missing else None


def choose(losses: Mapping[float, float], tolerance: float, untrained: float) -> float:
    """The lowest key whose loss misses at most the tolerance's share of the best one's gain over ``untrained``."""
    best = min(losses.values())
    gain = max(untrained - best, 0.0) if math.isfinite(untrained) else 0.0
    return min(key for key, loss in losses.items() if loss <= best + tolerance * gain)


def _rung(start: float, factor: float, place: int) -> float:
    """A rung of the ladder, rounded to what a person would write."""
    return float(f"{start * factor**place:.4g}")


def race_key(config: RunConfig, search: LearningRateSearch) -> str:
    """What tells one setting's race from another's: all that its short runs depend on, hashed; not the seed."""
    values = what_trains(_seedless(config).model_dump(mode="json"))
    values["train"] = {**values["train"], "learning_rate": None}
    if (
        not config.classifies
    ):  # what only a classifier has does not tell races apart, nor from those made before it
        values = {key: value for key, value in values.items() if key not in ("task", "classification")}
    text = json.dumps([values, search.steps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _seedless(config: RunConfig) -> RunConfig:
    """The run with seed 0, so that a setting's race does not depend on which seeds the sweep has."""
    values = config.model_dump()
    if config.adapter.seed == config.seed:
        values["adapter"]["seed"] = 0
    return RunConfig(**{**values, "seed": 0})


def run_race(
    config: RunConfig,
    search: LearningRateSearch,
    folder: Path,
    train: Callable[[RunConfig], Any],
    untrained: Callable[[RunConfig], float],
) -> RaceResult:
    """Find the learning rate of a run by short runs of it; what was run already is not run again.

    Args:
        config: the run; its seed, steps and intervals are replaced.
        search: how to search.
        folder: where the short runs and ``race.json`` go.
        train: trains a run.
        untrained: a run's validation loss before training.

    Raises:
        RunError: if every try diverged.
    """
    done = read_race(folder, search)
    if done is not None:
        return done
    start, before = search.start or config.learning_rate, untrained(config)
    tries: dict[float, Try] = {}
    losses: dict[float, float] = {}
    while (rate := next_rate(losses, start, search, before)) is not None:
        tries[rate] = _try(short_run(config, rate, search.steps, folder / f"rate-{rate:g}"), train)
        losses[rate] = math.inf if tries[rate].loss is None else tries[rate].loss
    if math.isinf(min(losses.values())):
        raise RunError(f"{folder}: all learning rates diverged: {', '.join(f'{rate:g}' for rate in losses)}.")
    result = RaceResult(
        learning_rate=choose(losses, search.tolerance, before),
        tried={rate: tries[rate].loss for rate in sorted(tries)},
        steps=search.steps * len(tries),
        seconds=round(sum(one.seconds for one in tries.values()), 3),
    )
    write_json(folder / RESULT, {**result.model_dump(mode="json"), "search": search.model_dump(mode="json")})
    return result


def read_race(folder: Path, search: LearningRateSearch) -> RaceResult | None:
    """What a finished race of this kind found; None if there is none."""
    try:
        stored = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        same = stored.pop("search") == search.model_dump(mode="json")
        return RaceResult.model_validate(stored) if same else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _try(short: RunConfig, train: Callable[[RunConfig], Any]) -> Try:
    """One short run, or what was noted of it when it was made."""
    note = Path(short.output) / TRY
    try:
        return Try.model_validate_json(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass
    began = time.perf_counter()
    try:
        train(short)
        loss = last_validation_loss(Path(short.output))
    except DivergedError:
        loss = None
    made = Try(loss=loss, seconds=round(time.perf_counter() - began, 3))
    write_json(note, made.model_dump())
    return made


def short_run(config: RunConfig, rate: float, steps: int, folder: Path) -> RunConfig:
    """The run with seed 0, fewer steps, a rate, and nothing but the last validation."""
    values = _seedless(config).model_dump()
    warmup = min(config.train.warmup_steps, steps // 5)
    values["train"] |= {"steps": steps, "learning_rate": rate, "warmup_steps": warmup}
    values["validation"] |= {"every": steps}
    values["checkpoint"] |= {"every": steps}
    values["preview"] |= {"every": None}
    values["evaluation"] |= {"every": None}
    values["log"] |= {"trackers": ()}
    return RunConfig(**{**values, "output": str(folder)})
