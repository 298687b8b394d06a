"""What ``inspect --targets`` prints: what patterns take of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .common import print_json, set_verbosity, split_words
from .params_view import make_console, plain_table

if TYPE_CHECKING:
    from ..runs.counting import TargetList

_FEW = 24
"""Names up to which all are printed unasked."""


def show_targets(
    model: str, patterns: Sequence[str], exclude: Sequence[str], every: bool, as_json: bool
) -> None:
    """Print what patterns take of a model.

    Args:
        model: what ``params --model`` takes.
        patterns, exclude: as typed; each may be a list with commas.
        every: whether to print all names, however many.
        as_json: whether to print JSON, which holds them all.

    Raises:
        ConfigError, BaseModelError, AdapterError: as :func:`superlora_diffusion.runs.counting.list_targets`.
    """
    set_verbosity(False)
    from ..runs.counting import list_targets

    found = list_targets(model, _split(patterns), _split(exclude))
    if as_json:
        print_json(found.details())
    else:
        print_targets(make_console(), found, every)


def _split(words: Iterable[str]) -> list[str]:
    return [part for word in words for part in split_words(word)]


def print_targets(console: Console, found: TargetList, every: bool) -> None:
    """The count of each pattern, the shapes, and the names where they are few or asked for."""
    console.print(Text(f"{found.network} of {found.model}", "bold"))
    _print_table(console, _patterns_table(found))
    _print_table(console, _shapes_table(found))
    if every or len(found.targets) <= _FEW:
        _print_table(console, _names_table(found))
    else:
        console.print(Text(f"--all prints the {len(found.targets):,} names.", "dim"))


def _print_table(console: Console, table: Table) -> None:
    console.print(Padding(table, (0, 0, 0, 2)))
    console.print()


def _patterns_table(found: TargetList) -> Table:
    table = plain_table(("pattern", "left"), ("targets", "right"), ("weights", "right"))
    rows = [(pattern, *numbers) for pattern, *numbers in found.taken]
    rows += [(f"exclude {pattern}", *numbers) for pattern, *numbers in found.excluded]
    for label, targets, weights in rows:
        table.add_row(Text(label), Text(f"{targets:,}"), Text(f"{weights:,}"))
    total = ("all targets", f"{len(found.targets):,}", f"{found.weights:,}")
    table.add_row(*(Text(cell, "bold") for cell in total))
    return table


def _shapes_table(found: TargetList) -> Table:
    table = plain_table(("targets", "right"), ("out x in", "left"))
    for (rows, columns), count in found.shapes.items():
        table.add_row(Text(f"{count:,}"), Text(f"{rows:,} x {columns:,}"))
    return table


def _names_table(found: TargetList) -> Table:
    table = plain_table(("name", "left"), ("out x in", "left"))
    for name, rows, columns in found.targets:
        table.add_row(Text(name), Text(f"{rows:,} x {columns:,}"))
    return table
