"""``sweep``: every cell once, whatever happens in between; the tables after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..errors import SuperLoRAError
from ..progress import Reporter
from ..runs.folder import RunFolder
from ..training.signals import stop_on_signals
from .clock import clock, seconds_left
from .config import SweepConfig
from .folder import SweepFolder
from .jobs import Job, Outcome
from .plan import PlannedCell, check_inputs, make_jobs, plan_sweep
from .results import Row, read_card, read_row, scoring_of
from .scheduler import Runner, run_jobs
from .table import write_tables


@dataclass
class Result:
    """How a sweep ended."""

    rows: list[Row]
    """The results table."""
    failed: dict[str, str] = field(default_factory=dict)
    """Error by cell."""
    unfinished: list[str] = field(default_factory=list)
    """Cells that were stopped or never started."""
    signal: int | None = None
    """The signal that stopped it."""


def run_sweep(sweep: SweepConfig, runner: Runner, reporter: Reporter) -> Result:
    """Run what is not finished yet. The same call again goes on; failed cells are tried again.

    Args:
        sweep: the sweep.
        runner: where the jobs are done; closed at the end.
        reporter: shows the jobs; restarted with their number.

    Raises:
        ConfigError, BaseModelError, DataError, EvaluationError: what is wrong for all cells of a kind, before any runs.
        RunError: if another process runs the sweep.
    """
    try:
        planned = plan_sweep(sweep)
        check_inputs(sweep, planned)
        folder = SweepFolder(sweep.output)
        with folder.locked(), stop_on_signals() as stop:
            folder.claim(sweep)
            watch = _Watch(folder, planned, make_jobs(sweep, planned), reporter)
            run_jobs(watch.jobs, runner, watch.started, watch.ended, lambda: bool(stop), watch.stopping)
            return replace(watch.result(), signal=stop.signal)
    finally:
        runner.close()


class _Watch:
    """Keeps the state file, the tables and the progress up to date while jobs begin and end."""

    def __init__(
        self, folder: SweepFolder, planned: Sequence[PlannedCell], jobs: Sequence[Job], reporter: Reporter
    ) -> None:
        self.folder, self.planned, self.reporter = folder, planned, reporter
        found = {job.name: finished_row(job) for job in jobs if job.kind == "cell"}
        self.rows = {name: row for name, row in found.items() if row is not None}
        done = self.rows.keys() | {job.name for job in jobs if job.kind == "race" and is_done(job)}
        self.jobs = [replace(job, needs=tuple(set(job.needs) - done)) for job in jobs if job.name not in done]
        self.outcomes: list[tuple[Job, Outcome]] = []
        earlier = folder.read_state()
        self.state = {name: {**earlier.get(name, {}), "status": "finished", "error": None} for name in done}
        self.state |= {job.name: {"status": "waiting"} for job in self.jobs}
        refused = [item for item in planned if item.error is not None]
        self.state |= {item.cell.name: {"status": "failed", "error": item.error} for item in refused}
        self._write()
        reporter.restart("sweep", len(self.jobs))
        reporter.say(f"{len(jobs)} jobs, {len(done)} of them done already.")

    def started(self, job: Job) -> None:
        self.state[job.name] = {"status": "running"}
        self.folder.write_state(self.state)
        self.reporter.note(f"{job.name} begins{self._left()}")

    def ended(self, job: Job, outcome: Outcome) -> None:
        self.state[job.name] = {"status": outcome.status, "seconds": outcome.seconds, "error": outcome.error}
        self.outcomes.append((job, outcome))
        if job.kind == "cell" and outcome.status == "finished":
            self.rows[job.name] = read_row(job.folder)
        self._write()
        self.reporter.advance()
        self.reporter.say(self._tell(job, outcome))

    def stopping(self) -> None:
        self.reporter.say("Stopping: what runs is being saved. Ctrl-C again breaks off at once.")

    def _tell(self, job: Job, outcome: Outcome) -> str:
        parts = [f"{job.name}: {outcome.status} after {clock(outcome.seconds)}"]
        if outcome.status == "finished":
            parts += _race_words(job) if job.kind == "race" else _score_words(self.rows.get(job.name))
        text = ", ".join(parts) + self._left()
        return text if outcome.error is None else f"{text}\n  {outcome.error.strip().splitlines()[-1]}"

    def _left(self) -> str:
        """Time left, once something has ended."""
        ended = {job.name for job, _ in self.outcomes}
        waiting = [job.kind for job in self.jobs if job.name not in ended]
        left = seconds_left(
            waiting, [(job.kind, outcome.seconds) for job, outcome in self.outcomes], self.parallel()
        )
        return "" if left is None or not waiting else f", about {clock(left)} left"

    def parallel(self) -> int:
        """How many jobs run at once, as seen now."""
        return max(1, sum(state.get("status") == "running" for state in self.state.values()))

    def _write(self) -> None:
        self.folder.write_state(self.state)
        write_tables(self.folder.path, self._rows())

    def _rows(self) -> list[Row]:
        """In the sweep's order."""
        rows = (self.rows.get(item.cell.name) for item in self.planned)
        return [row for row in rows if row is not None]

    def result(self) -> Result:
        cells = [item.cell.name for item in self.planned]
        status = {name: self.state[name]["status"] for name in cells}
        failed = {name: self.state[name]["error"] for name in cells if status[name] == "failed"}
        return Result(
            self._rows(), failed, [name for name in cells if status[name] not in ("finished", "failed")]
        )


def _race_words(job: Job) -> list[str]:
    found = job.found()
    return (
        []
        if found is None
        else [f"{found.learning_rate:g} of {len(found.tried)} rates, {found.steps} steps in all"]
    )


def _score_words(row: Row | None) -> list[str]:
    names = ("val_loss", "is_distance", "fid", "accuracy")
    return [f"{name} {row[name]:.4g}" for name in names if row and row[name] is not None]


def is_done(job: Job) -> bool:
    """Whether a job's result is there."""
    return (job.found() if job.kind == "race" else finished_row(job)) is not None


def finished_row(job: Job) -> Row | None:
    """The row of a cell that is done, by the very config that is asked for now; None if it is not.

    What is damaged or was made otherwise is not done: doing it again tells what is wrong.
    """
    try:
        run = job.run_config()
        RunFolder(job.folder).check(run)
        row = read_row(job.folder)
    except (SuperLoRAError, OSError, ValueError):
        return None
    scored = not job.score or read_card(job.folder).get("scored") == scoring_of(run)
    return row if scored else None
