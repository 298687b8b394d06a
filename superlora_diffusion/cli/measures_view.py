"""How ``inspect --measure`` prints: a row a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.text import Text

from .params_view import make_console, plain_table, print_indented

if TYPE_CHECKING:
    from ..runs.measuring import Measured, Measures

Row = TypeVar("Row")
_HEAD, _TAIL = 12, 8
_LEGEND = (
    "|dW| and |W|: Frobenius norms. largest: the largest singular value of dW. effective rank: exp of the entropy of "
    "dW's squared singular values, normalised to sum 1 (after Roy and Vetterli 2007). rank: singular values above "
    "rounding."
)
_NOT_FINITE = "not finite"


def print_measures(measures: Measures, all_rows: bool) -> None:
    """The table of an adapter's updates, their sum, and what the columns mean."""
    console = make_console()
    console.print()
    against = "" if measures.base is None else f" against the weights of {measures.base}"
    console.print(Text(f"How large its updates are{against}:"))
    if measures.problem is not None:
        print_indented(console, f"the base's weights were not read: {measures.problem}", "yellow")
    if not measures.targets:
        return
    table = plain_table(("target", "left"), ("weight", "left"), *_columns(measures))
    shown, left_out = shorten(measures.targets, all_rows)
    for target in shown:
        table.add_row(*map(Text, _cells(target, measures.base is not None)))
        if left_out and target is shown[_HEAD - 1]:
            table.add_row(Text(f"... {left_out:,} more: --all shows them", "dim"))
    console.print(table)
    print_indented(console, _sum(measures), "bold")
    print_indented(console, _LEGEND, "dim")


def shorten(rows: Sequence[Row], all_rows: bool) -> tuple[Sequence[Row], int]:
    """The first and last rows of a long list, and how many between them are left out."""
    left_out = len(rows) - _HEAD - _TAIL
    if all_rows or left_out < 2:  # the line that says so takes a row itself
        return rows, 0
    return [*rows[:_HEAD], *rows[-_TAIL:]], left_out


def _columns(measures: Measures) -> list[tuple[str, str]]:
    names = [
        "|dW|",
        *(["|dW|/|W|"] if measures.base is not None else []),
        "largest",
        "effective rank",
        "rank",
    ]
    return [(name, "right") for name in names]


def _cells(target: Measured, against: bool) -> list[str]:
    size = target.size
    numbers = [size.norm, *([target.ratio] if against else []), size.largest]
    if size.norm is None:
        cells = [_NOT_FINITE] + [""] * (len(numbers) - 1) + ["", ""]
    else:
        cells = [*map(number, numbers), f"{size.effective_rank:.2f}", f"{size.rank:,}"]
    return [target.name, " x ".join(f"{side:,}" for side in target.shape), *cells]


def _sum(measures: Measures) -> str:
    if measures.norm is None:
        return "Some updates hold numbers that are not finite: the training diverged, or a file is damaged."
    ratio = "" if measures.ratio is None else f", |dW|/|W| {number(measures.ratio)}"
    return f"all together: |dW| {number(measures.norm)}{ratio}"


def number(value: float | None) -> str:
    """Four digits; nothing for what has no value."""
    return "" if value is None else f"{value:.4g}"
