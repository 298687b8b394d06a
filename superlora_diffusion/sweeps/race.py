"""The learning-rate search inside a sweep: hill climbing over short runs, on the validation loss."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ..errors import RunError
from ..files import write_json
from ..runs.config import RunConfig
from .config import LearningRateSearch
from .results import last_validation_loss

RESULT = "race.json"


class RaceResult(BaseModel):
    """What a race found, and what it cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float
    """The winner."""
    tried: dict[float, float | None]
    """Validation loss by learning rate; None where the run diverged."""
    steps: int
    """Optimiser steps spent on all tries."""
    seconds: float


def next_rate(losses: Mapping[float, float], start: float, factor: float, max_tries: int) -> float | None:
    """The rate to try next, or None when the best one has a worse neighbour on either side (or tries are used up).

    Rates lie on the ladder start * factor^k.

    Args:
        losses: validation loss by rate; infinite where the run diverged.
    """
    places = {round(math.log(rate / start, factor)): loss for rate, loss in losses.items()}
    if len(places) >= max_tries:
        return None
    for place in (0, 1, -1):
        if place not in places:
            return _rung(start, factor, place)
    best = min(places, key=lambda place: (places[place], place))
    if math.isinf(places[best]):
        return _rung(start, factor, min(places) - 1)  # all diverged: only lower can help
    missing = [place for place in (best - 1, best + 1) if place not in places]
    return _rung(start, factor, missing[0]) if missing else None


def choose_rate(losses: Mapping[float, float], tolerance: float) -> float:
    """The lowest rate whose loss is at most (1 + tolerance) times the best."""
    bound = min(losses.values()) * (1 + tolerance)
    return min(rate for rate, loss in losses.items() if loss <= bound)


def _rung(start: float, factor: float, place: int) -> float:
    """A rung of the ladder, rounded to what a person would write."""
    return float(f"{start * factor**place:.4g}")


def run_race(
    config: RunConfig,
    search: LearningRateSearch,
    folder: Path,
    train: Callable[[RunConfig], Any],
) -> RaceResult:
    """Find the learning rate of a run by short runs of it; what was run already is not run again.

    Args:
        config: the run; its steps and intervals are replaced.
        folder: where the short runs and ``race.json`` go.
        train: trains a run; a :class:`RunError` means that it diverged.

    Raises:
        RunError: if every try diverged.
    """
    done = read_race(folder, search)
    if done is not None:
        return done
    start = search.start or config.learning_rate
    losses: dict[float, float] = {}
    spent = 0.0
    while (rate := next_rate(losses, start, search.factor, search.max_tries)) is not None:
        losses[rate], seconds = _try(config, rate, search, folder, train)
        spent += seconds
    if math.isinf(min(losses.values())):
        raise RunError(f"{folder}: all learning rates diverged: {', '.join(f'{rate:g}' for rate in losses)}.")
    tried = {rate: loss if math.isfinite(loss) else None for rate, loss in sorted(losses.items())}
    steps = search.steps * len(losses)
    winner = choose_rate(losses, search.tolerance)
    result = RaceResult(learning_rate=winner, tried=tried, steps=steps, seconds=round(spent, 1))
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


def _try(
    config: RunConfig,
    rate: float,
    search: LearningRateSearch,
    folder: Path,
    train: Callable[[RunConfig], Any],
) -> tuple[float, float]:
    """(validation loss, seconds) of a short run; a diverged run's loss is infinite."""
    short = short_run(config, rate, search.steps, folder / f"rate-{rate:g}")
    began = time.perf_counter()
    try:
        train(short)
    except RunError as error:
        if "the loss became" not in str(error):
            raise
        return math.inf, time.perf_counter() - began
    return last_validation_loss(Path(short.output)), time.perf_counter() - began


def short_run(config: RunConfig, rate: float, steps: int, folder: Path) -> RunConfig:
    """The run with fewer steps, a rate, and nothing but the last validation."""
    values = config.model_dump()
    values["train"] |= {
        "steps": steps,
        "learning_rate": rate,
        "warmup_steps": min(config.train.warmup_steps, steps // 5),
    }
    values["validation"] |= {"every": steps}
    values["checkpoint"] |= {"every": steps}
    values["preview"] |= {"every": None}
    values["evaluation"] |= {"every": None} if "every" in values["evaluation"] else {}
    values["log"] |= {"trackers": ()}
    return RunConfig(**{**values, "output": str(folder)})
