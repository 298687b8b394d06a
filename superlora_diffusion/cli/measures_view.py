"""How ``inspect --measure`` prints: a row a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .common import print_json, set_verbosity
from .params_view import make_console, plain_table, print_indented

if TYPE_CHECKING:
    from ..runs.inspection import Inspection
    from ..runs.measuring import Measured, Measures

Row = TypeVar("Row")
_HEAD, _TAIL = 12, 8
_LEGEND = (
    "|dW| and |W|: Frobenius norms. largest: the largest singular value of dW. effective rank: exp of the entropy of "
    "dW's squared singular values, normalised to sum 1 (after Roy and Vetterli 2007). rank: singular values above "
    "rounding."
)
_NOT_FINITE = "not finite"


def show_measures(
    source: str,
    found: Inspection,
    base: str | None,
    out: Path | None,
    every: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure an adapter, write what was asked for, and print the table or (with what its folder says) JSON.

    Args:
        source: the adapter, as it was given.
        found: what its folder says.
        base: another base than it names.
        out: a folder for the heat map and the JSON.
        every: whether to print all rows, however many.
        as_json: whether to print JSON, which holds them all.
        quiet: whether to show no progress.

    Raises:
        AdapterError, BaseModelError: as :func:`superlora_diffusion.runs.measuring.measure_adapter`.
    """
    set_verbosity(False)
    from ..progress import Reporter
    from ..runs.measuring import measure_adapter

    total = 0 if found.targets is None else found.targets.count
    with Reporter("measure", total, "matrix", quiet=quiet) as reporter:
        measures = measure_adapter(source, base, reporter.advance)
    told = {**found.as_dict(), "measures": measures.as_dict()}
    written = [] if out is None else _write(out, told, found, measures)
    if as_json:
        print_json(told)
    else:
        print_measures(measures, written, every)


def _write(out: Path, told: dict[str, Any], found: Inspection, measures: Measures) -> list[Path]:
    from ..files import write_json
    from ..runs.heatmap import save_heat_map
    from ..runs.measuring import heat_map_of

    written = [out / "inspection.json"]
    write_json(written[0], told)
    if measures.targets:
        written.append(out / "heatmap.png")
        title = "/".join(found.folder.resolve().parts[-2:])
        save_heat_map(heat_map_of(measures, f"{found.name}: {title}"), written[1])
    return written


def print_measures(measures: Measures, written: Sequence[Path], all_rows: bool) -> None:
    """The table of an adapter's updates, their sum, what the columns mean, and the files that were written."""
    console = make_console()
    _print_table(console, measures, all_rows)
    for path in written:
        console.print(Text(str(path)), soft_wrap=True)


def _print_table(console: Console, measures: Measures, all_rows: bool) -> None:
    console.print()
    against = "" if measures.base is None else f" against the weights of {measures.base}"
    console.print(Text(f"How large its updates are{against}:"))
    if measures.problem is not None:
        print_indented(console, f"the base's weights were not read: {measures.problem}", "yellow")
    for why, names in by_reason(measures.left_out).items():
        print_indented(
            console, f"left out: {names[0]}{', ...' * (len(names) > 1)} ({len(names):,}): {why}", "yellow"
        )
    if not measures.targets:
        return
    table = plain_table(("target", "left"), ("weight", "left"), *_columns(measures))
    add_rows(table, measures.targets, lambda target: _cells(target, measures.base is not None), all_rows)
    console.print(table)
    print_indented(console, _sum(measures), "bold")
    print_indented(console, _LEGEND, "dim")


def by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """What was left out, by why."""
    found: dict[str, list[str]] = {}
    for name, why in left_out.items():
        found.setdefault(why, []).append(name)
    return found


def add_rows(table: Table, rows: Sequence[Row], cells: Callable[[Row], list[str]], all_rows: bool) -> None:
    """A long list's first and last rows, between them a line that says how many are left out; or all of it."""
    left_out = len(rows) - _HEAD - _TAIL
    if all_rows or left_out < 2:  # the line takes a row itself
        left_out = 0
    for row in rows[:_HEAD]:
        table.add_row(*map(Text, cells(row)))
    if left_out:
        table.add_row(Text(f"... {left_out:,} more: --all shows them", "dim"))
    for row in rows[_HEAD + left_out :]:
        table.add_row(*map(Text, cells(row)))


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
