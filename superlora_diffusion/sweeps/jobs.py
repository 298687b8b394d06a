"""The jobs of a sweep and what a worker does with one: the same code under every runner."""

from __future__ import annotations

import shlex
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import SuperLoRAError
from ..files import write_json
from .config import LearningRateSearch
from .results import CARD, scoring_of

Status = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class Job:
    """One piece of work; picklable. A race finds the learning rate that its setting's cells need."""

    name: str
    kind: Literal["race", "cell"]
    config: dict[str, Any]
    """The run's resolved config."""
    race: Path
    """Folder of the setting's race."""
    search: LearningRateSearch | None
    bases: Path
    """Folder of the bases' shared scores."""
    score: bool = True
    device: str = "auto"
    card: dict[str, Any] = field(default_factory=dict)
    """What to write beside the cell."""
    needs: tuple[str, ...] = ()
    """Names of jobs that must have finished before."""

    @property
    def folder(self) -> Path:
        """The run folder of a cell."""
        return Path(self.config["output"]).expanduser()


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    name: str
    status: Status
    seconds: float = 0.0
    error: str | None = None


def do_job(job: Job) -> Outcome:
    """Do one job in this process. Never raises: what goes wrong is the outcome."""
    began = time.perf_counter()

    def outcome(status: Status, error: str | None = None) -> Outcome:
        return Outcome(job.name, status, round(time.perf_counter() - began, 1), error)

    from ..training.loop import Interrupted

    try:
        (_race if job.kind == "race" else _cell)(job)
    except (KeyboardInterrupt, Interrupted):
        return outcome("interrupted")
    except SuperLoRAError as error:
        return outcome("failed", str(error))
    except Exception:  # a fault of ours fails this cell alone; the trace is kept with it
        return outcome("failed", traceback.format_exc())
    return outcome("finished")


def _race(job: Job) -> None:
    from ..runs.config import RunConfig
    from ..training.loop import train
    from .race import run_race

    run_race(RunConfig(**job.config), job.search, job.race, lambda run: train(run, job.device, quiet=True))


def _cell(job: Job) -> None:
    from ..runs.config import RunConfig
    from ..training.loop import train

    config = dict(job.config)
    card = dict(job.card)
    if job.search is not None:
        from .race import read_race

        found = read_race(job.race, job.search)
        config["train"] = {**config["train"], "learning_rate": found.learning_rate}
        card["race"] = [
            {"learning_rate": rate, "validation_loss": loss} for rate, loss in found.tried.items()
        ]
        card |= {"race_steps": found.steps, "race_seconds": found.seconds}
    run = RunConfig(**config)
    train(run, job.device, quiet=True)
    folder = Path(run.output)
    command = f"superlora-diff train --config {shlex.quote(str(folder / 'config.yaml'))} output=NEW_FOLDER"
    card["command"] = command
    write_json(folder / CARD, card)
    if job.score:
        from .scoring import score_cell

        score_cell(folder, job.bases, job.device)
        write_json(folder / CARD, {**card, "scored": scoring_of(run)})
