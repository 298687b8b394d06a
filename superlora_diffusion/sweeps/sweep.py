"""``sweep``: every cell once, whatever happens in between; the tables after each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..progress import Reporter
from ..runs.config import RunConfig
from ..training.signals import stop_on_signals
from .config import SweepConfig
from .folder import SweepFolder
from .jobs import Job, Outcome
from .plan import PlannedCell, make_jobs, plan_sweep
from .race import read_race
from .results import read_card, read_row, scoring_of
from .scheduler import Runner, run_jobs
from .table import write_tables


@dataclass
class Result:
    """How a sweep ended."""

    rows: list[dict[str, Any]]
    """The results table."""
    failed: dict[str, str] = field(default_factory=dict)
    """Error by cell."""
    unfinished: list[str] = field(default_factory=list)
    """Cells that were stopped or never started."""


def run_sweep(sweep: SweepConfig, runner: Runner, reporter: Reporter) -> Result:
    """Run what is not finished yet. The same call again goes on; failed cells are tried again.

    Args:
        sweep: the sweep.
        runner: where the jobs are done; closed at the end.
        reporter: shows the jobs; restarted with their number.
    """
    folder = SweepFolder(sweep.output)
    with folder.locked(), stop_on_signals() as stop:
        planned = plan_sweep(sweep)
        folder.claim(sweep)
        watch = _Watch(sweep, folder, planned, reporter)
        try:
            run_jobs(watch.jobs, runner, watch.started, watch.ended, lambda: bool(stop))
        finally:
            runner.close()
        return watch.result()


class _Watch:
    """Keeps the state file, the tables and the progress up to date while jobs begin and end."""

    def __init__(
        self, sweep: SweepConfig, folder: SweepFolder, planned: Sequence[PlannedCell], reporter: Reporter
    ) -> None:
        self.folder, self.planned, self.reporter = folder, planned, reporter
        self.state = folder.read_state()
        for item in planned:
            if item.error is not None:
                self._note(item.cell.name, "failed", error=item.error)
        jobs = make_jobs(sweep, planned)
        self.jobs = [job for job in jobs if not is_done(job)]
        done = {job.name for job in jobs} - {job.name for job in self.jobs}
        self.jobs = [replace(job, needs=tuple(set(job.needs) - done)) for job in self.jobs]
        self.began, self.left = time.perf_counter(), len(self.jobs)
        for name in done:
            self.state[name] = {**self.state.get(name, {}), "status": "finished", "error": None}
        self._write()
        reporter.restart("sweep", len(self.jobs))
        reporter.say(f"{len(jobs)} jobs, {len(done)} of them done already.")

    def started(self, job: Job) -> None:
        self._note(job.name, "running")
        self.reporter.note(f"{job.name} begins")

    def ended(self, job: Job, outcome: Outcome) -> None:
        self._note(job.name, outcome.status, seconds=outcome.seconds, error=outcome.error)
        self.left -= 1
        self.reporter.advance()
        self.reporter.say(self._tell(job, outcome))
        self._write()

    def _tell(self, job: Job, outcome: Outcome) -> str:
        lines = [f"{job.name}: {outcome.status} after {clock(outcome.seconds)}"]
        row = read_row(job.folder) if job.kind == "cell" else None
        if outcome.status == "finished" and row is not None:
            lines += [
                f"{name} {row[name]:.4g}"
                for name in ("val_loss", "is_distance", "fid")
                if row[name] is not None
            ]
        done = len(self.jobs) - self.left
        if done and self.left:
            lines.append(f"left {clock((time.perf_counter() - self.began) / done * self.left)}")
        text = ", ".join(lines)
        return text if outcome.error is None else f"{text}\n  {outcome.error.strip().splitlines()[-1]}"

    def _note(self, name: str, status: str, **values: Any) -> None:
        self.state[name] = {"status": status, **values}

    def _write(self) -> None:
        self.folder.write_state(self.state)
        write_tables(self.folder.path, self.rows())

    def rows(self) -> list[dict[str, Any]]:
        rows = (read_row(self.folder.cell(item.cell.name)) for item in self.planned)
        return [row for row in rows if row is not None]

    def result(self) -> Result:
        cells = [item.cell.name for item in self.planned]
        states = {name: self.state.get(name, {}) for name in cells}
        failed = {name: state["error"] for name, state in states.items() if state.get("status") == "failed"}
        unfinished = [name for name in cells if states[name].get("status") not in ("finished", "failed")]
        return Result(self.rows(), failed, unfinished)


def is_done(job: Job) -> bool:
    """Whether a job's result is there."""
    if job.kind == "race":
        return read_race(job.race, job.search) is not None
    if read_row(job.folder) is None:
        return False
    return not job.score or read_card(job.folder).get("scored") == scoring_of(RunConfig(**job.config))


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
