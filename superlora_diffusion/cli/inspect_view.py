"""How ``inspect`` prints: what an adapter is, and a table of routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .params_view import make_console, plain_table, print_indented

if TYPE_CHECKING:
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
    if found.targets is None:
        console.print(Text(_PEER))
    else:
        _print_routes(console, found.targets)


def _facts(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "method", found.method
    yield "settings", _join(found.settings) or "all at their defaults"
    if found.scale is not None and found.scale != 1:
        yield "scale", f"{found.scale:g} (the settings' times the run-time one)"
    yield "base", "not told" if found.base is None else str(found.base)
    share = ""
    if found.targets is not None:
        targets, patterns = found.targets, ", ".join(found.targets.patterns)
        yield "targets", f"{patterns}: {targets.count:,} matrices, N = {targets.weights:,} weights"
        share = f", {100 * found.parameters / targets.weights:.3g} % of N"
    yield "parameters", f"{found.parameters:,} numbers train{share}"
    yield "on disk", ", ".join(f"{size:,} bytes of {name}" for name, size in found.files.items())
    trained = ", ".join(filter(None, [_join(found.training), _join({"data": found.data.get("name")})]))
    if trained:
        yield "training", trained


def _join(values: Mapping[str, Any]) -> str:
    """``learning_rate 0.02, targets [to_q, to_v]``: names and values that are there."""
    return ", ".join(f"{key} {_plain(value)}" for key, value in values.items() if value is not None)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print_routes(console: Console, targets: TargetRoutes) -> None:
    console.print(Text(f"How updates reach their layers ({_ASKED_FOR[targets.route]}):"))
    columns = [("matrices", "right"), ("out x in", "left"), ("rank", "right")]
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
        if targets.convolutions:
            yield (
                f"{targets.convolutions:,} of the targets are convolutions: with one among them all is added "
                "to the weights."
            )
        else:
            yield "These updates are not of low rank matrix by matrix, so that they have no small products."
