"""Progress for people: a rich bar on a terminal, plain lines in a log, nothing when quiet."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column


class Reporter:
    """Shows how a long piece of work goes on. Use as a context manager."""

    def __init__(
        self, title: str, total: int, unit: str, console: Console | None = None, quiet: bool = False
    ) -> None:
        self.title, self.total, self.unit, self.quiet = title, total, unit, quiet
        self.console = console or Console(stderr=True)
        self.bar: Progress | None = None
        self.done = 0

    def __enter__(self) -> Reporter:
        if not self.quiet and self.console.is_terminal:
            # Where the terminal is narrow, the note is broken into lines, and the count stays whole.
            note = TextColumn("{task.fields[note]}", table_column=Column(no_wrap=False))
            columns = [
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn(self.unit),
            ]
            self.bar = Progress(*columns, TimeRemainingColumn(), note, console=self.console)
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.done, note="")
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def restart(self, title: str, total: int) -> None:
        """Begin the next piece of work of the same kind."""
        self.title, self.total, self.done = title, total, 0
        if self.bar is not None:
            self.bar.reset(self.task, total=total, description=title)

    def stage(self, title: str, done: int, total: int) -> None:
        """Count work as done of a stage that begins with its first call."""
        if self.title != title or self.total != total:
            self.restart(title, total)
        self.advance(done)

    def advance(self, count: int = 1) -> None:
        """Count work as done."""
        self.done += count
        if self.bar is not None:
            self.bar.advance(self.task, count)

    def note(self, text: str) -> None:
        """Say how it goes: beside the bar, or as a line with the count in a log."""
        if self.bar is not None:
            self.bar.update(self.task, note=text)
        elif not self.quiet:
            self._print(f"{self.title}: {self.unit} {self.done}/{self.total}  {text}")

    def say(self, text: str) -> None:
        """A line of its own, above the bar where there is one."""
        if not self.quiet:
            self._print(text)

    def _print(self, text: str) -> None:
        # Paths may hold brackets, and a line of a log is not to be broken.
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
