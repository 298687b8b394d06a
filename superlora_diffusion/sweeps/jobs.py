"""The jobs of a sweep and what a worker does with one: the same code under every runner."""

from __future__ import annotations

import shlex
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from ..errors import RunError, SuperLoRAError
from ..files import write_json
from ..runs.config import RunConfig
from .config import LearningRateSearch
from .folder import CARD
from .race import RaceResult, read_race
from .results import scoring_of

if TYPE_CHECKING:
    from ..training.signals import StopRequest

_LOCK_SECONDS = (
    90  # how long the workers of a dead driver or node may hold a run folder before they are gone, too
)
_RACE_SECONDS = 30  # how late shared storage may show what another node wrote

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

    def found(self) -> RaceResult | None:
        """What the setting's race found; None if there is none, or none yet."""
        return None if self.search is None else read_race(self.race, self.search)

    def run_config(self, wait: float = 0) -> RunConfig:
        """The run's config with the rate that the race found.

        Args:
            wait: seconds until the race's result must be seen; shared storage may be late.

        Raises:
            RunError: if it is not there.
        """
        run = RunConfig(**self.config)
        if self.search is None:
            return run
        end = time.monotonic() + wait
        while (found := self.found()) is None:
            if time.monotonic() >= end:
                raise RunError(f"{self.race} holds no result of the learning-rate search of {self.name}.")
            time.sleep(0.5)
        train = run.train.model_copy(update={"learning_rate": found.learning_rate})
        return run.model_copy(update={"train": train})

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

    try:
        from ..training.loop import Interrupted

        try:
            (_race if job.kind == "race" else _cell)(job)
        except Interrupted:
            return outcome("interrupted")
    except KeyboardInterrupt:
        return outcome("interrupted")
    except SuperLoRAError as error:
        return outcome("failed", str(error))
    except Exception:  # a fault of ours fails this cell alone; the trace is kept with it
        return outcome("failed", traceback.format_exc())
    return outcome("finished")


def _race(job: Job) -> None:
    from ..training.signals import stop_on_signals
    from ..training.untrained import untrained_loss
    from .race import run_race

    with stop_on_signals() as stop:
        run_race(
            RunConfig(**job.config),
            job.search,
            job.race,
            lambda run: _train(run, job.device, stop),
            lambda run: untrained_loss(run, job.device),
        )


def _cell(job: Job) -> None:
    from ..training.signals import stop_on_signals

    run, found = job.run_config(wait=_RACE_SECONDS), job.found()
    card = {**job.card, "command": _command(run)}
    if found is not None:
        tried = [{"learning_rate": rate, "validation_loss": loss} for rate, loss in found.tried.items()]
        card |= {"race": tried, "race_steps": found.steps, "race_seconds": found.seconds}
    with stop_on_signals() as stop:
        _train(run, job.device, stop)
    write_json(job.folder / CARD, card)
    if job.score:
        from .scoring import score_cell

        score_cell(job.folder, job.bases, job.device)
        write_json(job.folder / CARD, {**card, "scored": scoring_of(run)})


def _train(run: RunConfig, device: str, stop: StopRequest) -> None:
    """Train a run, once the processes that an earlier call left in its folder are gone.

    Raises:
        Interrupted: also where the signal came too late for training to notice.
    """
    from ..training.loop import Interrupted, train

    _wait_for_lock(Path(run.output).expanduser())
    train(run, device, quiet=True)
    if stop:
        raise Interrupted("stopped", stop.signal)


def _wait_for_lock(run: Path) -> None:
    """Where a driver or a node died, its workers hold their run folders until they notice."""
    if not run.is_dir():
        return
    lock = FileLock(run / "lock")
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        return  # training says that the folder is in use
    lock.release()


def _command(run: RunConfig) -> str:
    config = Path(run.output) / "config.yaml"
    return f"superlora-diff train --config {shlex.quote(str(config))} output=NEW_FOLDER"
