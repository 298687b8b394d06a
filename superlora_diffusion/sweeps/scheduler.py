"""Which job next: one loop for every runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from .jobs import Job, Outcome


class Runner(Protocol):
    """Where jobs are done."""

    def free(self) -> bool:
        """Whether another job can be taken now."""

    def submit(self, job: Job) -> None:
        """Start a job."""

    def wait(self, seconds: float) -> list[Outcome]:
        """The outcomes of jobs that ended, none if none does within ``seconds``."""

    def stop(self) -> None:
        """Ask the running jobs to save and end."""

    def close(self) -> None:
        """Let go of everything."""


def run_jobs(
    jobs: Sequence[Job],
    runner: Runner,
    on_start: Callable[[Job], None] = lambda job: None,
    on_end: Callable[[Job, Outcome], None] = lambda job, outcome: None,
    stopped: Callable[[], bool] = lambda: False,
    on_stop: Callable[[], None] = lambda: None,
    poll: float = 0.5,
) -> dict[str, Outcome]:
    """Do all jobs, each after those it needs; a failed job fails what needs it, and the rest goes on.

    Args:
        jobs: in the order they are wished; the first that is ready goes first.
        stopped: asked between events; once true, running jobs are asked to stop and no other is started.
        on_stop: called when that happens.
        poll: seconds between two questions.

    Returns:
        the outcome of every job that ended; jobs that never started are missing.
    """
    waiting = {job.name: job for job in jobs}
    running: dict[str, Job] = {}
    ended: dict[str, Outcome] = {}
    asked = False

    def end(job: Job, outcome: Outcome) -> None:
        ended[job.name] = outcome
        on_end(job, outcome)

    while waiting or running:
        if stopped() and not asked:
            asked = True
            waiting.clear()
            on_stop()
            runner.stop()
        for job in _blocked(waiting, ended):
            end(waiting.pop(job.name), Outcome(job.name, "failed", error=_reason(job, ended)))
        for job in _ready(waiting, ended):
            if not runner.free():
                break
            running[job.name] = waiting.pop(job.name)
            on_start(job)
            runner.submit(job)
        for outcome in runner.wait(poll) if running else ():
            end(running.pop(outcome.name), outcome)
    return ended


def _ready(waiting: dict[str, Job], ended: dict[str, Outcome]) -> list[Job]:
    return [job for job in waiting.values() if all(need in ended for need in job.needs)]


def _blocked(waiting: dict[str, Job], ended: dict[str, Outcome]) -> list[Job]:
    return [job for job in waiting.values() if any(_failed(need, ended) for need in job.needs)]


def _failed(need: str, ended: dict[str, Outcome]) -> bool:
    return need in ended and ended[need].status != "finished"


def _reason(job: Job, ended: dict[str, Outcome]) -> str:
    need = next(need for need in job.needs if _failed(need, ended))
    return f"{need}, which this cell needs, {ended[need].status}: {ended[need].error}"
