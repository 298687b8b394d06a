"""How ``inspect`` prints: what an adapter is, and a table of routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..report.metrics import METRICS
from .params_view import make_console, plain_table, print_indented

if TYPE_CHECKING:
    from ..runs.history import History
    from ..runs.inspection import Inspection, TargetRoutes

_ASKED_FOR = {
    "auto": "route auto: what costs less",
    "weight": "route weight, as its settings ask for",
    "products": "route products, as its settings ask for",
}
_TOKEN = "A token is one row that goes through a layer: batch x positions."
_CACHED = "Sampling generates the updates once for all of its steps (cached()), and there auto adds them to the weight."
_PEER = (
    "How updates reach their layers is told for SuperLoRA adapters alone; here it is the method's own affair."
)


def print_inspection(found: Inspection) -> None:
    """The adapter's facts, one a line, then how its updates reach their layers."""
    console = make_console()
    console.print(Text(f"{found.name}: {found.folder}", "bold"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _facts(found):
        grid.add_row(Text(name), Text(text))
    console.print(Padding(grid, (0, 0, 0, 2)))
    console.print()
    if found.history is not None and found.history.scores:
        print_scores(console, found.history.scores)
    if found.targets is None:
        console.print(Text(_PEER))
    else:
        _print_routes(console, found.targets)


def print_hint() -> None:
    """What else there is to see."""
    make_console().print(Text("Norms and ranks of its updates, target by target: --measure", "dim"))


def _facts(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "method", found.method
    yield "settings", join_values(found.settings) or "all at their defaults"
    if found.scale is not None and found.scale != 1:
        yield "scale", f"{found.scale:g} (the settings' times the run-time one)"
    if found.step_factors not in (None, (1, 1)):
        smallest, largest = found.step_factors
        span = f"{smallest:g}" if smallest == largest else f"{smallest:g} to {largest:g} by group"
        yield "step factor", f"{span} (of step {found.settings['step']}, on the update beside the scale)"
    yield "base", "not told" if found.base is None else str(found.base)
    share = ""
    if found.targets is not None:
        targets, patterns = found.targets, ", ".join(found.targets.patterns)
        yield "targets", f"{patterns}: {targets.counted}, N = {targets.weights:,} weights"
        share = f", {100 * found.parameters / targets.weights:.3g} % of N"
    yield "parameters", f"{found.parameters:,} numbers train{share}"
    if found.head is not None:
        trained = (
            f"{found.head.parameters:,} numbers trained beside" if found.head.parameters else "the base's own"
        )
        yield "head", f"{found.head.classes:,} classes, {trained}"
    yield "on disk", ", ".join(f"{size:,} bytes of {name}" for name, size in found.files.items())
    yield "sha256", f"{found.sha256} of its weights"
    if found.library is not None:
        yield "written by", f"superlora-diffusion {found.library}"
    trained = ", ".join(
        filter(None, [join_values(found.training), join_values({"data": found.data.get("name")})])
    )
    if trained:
        yield "training", trained
    if found.history is not None:
        yield from _told_by_the_run(found.history)


def _told_by_the_run(history: History) -> Iterator[tuple[str, str]]:
    yield "run", str(history.folder)
    if history.training:
        yield "", join_values(history.training)
    if history.outcome:
        yield "outcome", join_values({name: _rounded(value) for name, value in history.outcome.items()})
    for problem in history.problems:
        yield "note", problem


def _rounded(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def print_scores(console: Console, scores: Sequence[dict[str, Any]], heading: str = "scores of") -> None:
    """A row a record, with how it was measured."""
    measured = [metric for metric in METRICS if any(metric.key in record for record in scores)]
    columns = [(heading, "left"), ("parameters", "right")]
    columns += [(metric.short, "right") for metric in measured]
    table = plain_table(*columns, ("images", "right"), ("extractor", "left"))
    for record in scores:
        cells = [str(record.get("name", "")), f"{record['parameters']:,}"]
        cells += [metric.write(record[metric.key]) if metric.key in record else "" for metric in measured]
        table.add_row(*map(Text, (*cells, str(record.get("n", "")), str(record.get("extractor", "")))))
    console.print(table)
    console.print()


def join_values(values: Mapping[str, Any]) -> str:
    """``learning_rate 0.02, targets [to_q, to_v]``: names and values that are there."""
    return ", ".join(f"{key} {plain_value(value)}" for key, value in values.items() if value is not None)


def plain_value(value: Any) -> str:
    """A value as it stands in a config."""
    if isinstance(value, list):
        return f"[{', '.join(map(plain_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain_value(item)}" for key, item in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print_routes(console: Console, targets: TargetRoutes) -> None:
    console.print(Text(f"How updates reach their layers ({_ASKED_FOR[targets.route]}):"))
    columns = [("targets", "right"), ("out x in", "left"), ("rank", "right")]
    table = plain_table(*columns, ("in training", "left"), ("in inference", "left"))
    for row in targets.shapes:
        rank = "" if row.rank is None else f"{row.rank:,}"
        cells = (f"{row.count:,}", f"{row.shape[0]:,} x {row.shape[1]:,}", rank)
        table.add_row(*map(Text, (*cells, row.training.text, row.inference.text)))
    console.print(table)
    for note in _notes(targets):
        print_indented(console, note, "dim")


def _notes(targets: TargetRoutes) -> Iterator[str]:
    if targets.depends_on_cost:
        yield _TOKEN
        yield _CACHED
    elif all(row.rank is None for row in targets.shapes):
        others = {"convolutions": targets.convolutions, "vectors": targets.vectors}
        for kind, count in others.items():
            if count:
                yield f"{count:,} of the targets are {kind}: with one among them all is added to the weights."
        if not any(others.values()):
            yield "These updates are not of low rank matrix by matrix, so that they have no small products."
