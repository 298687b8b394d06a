"""How ``params`` prints: formulas, tables, lines to paste."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..runs.family import family_of

if TYPE_CHECKING:
    from ..adapters.config import SuperLoRAConfig
    from ..adapters.formula import Formula, GroupFormula
    from ..runs.config import RunConfig
    from ..runs.counting import TargetList
    from ..runs.search import Found
    from ..training.inventory import Inventory

_WIDE = 110  # columns from which setting and formula stand beside each other


def make_console() -> Console:
    """A console for results; a log or a pipe has no width of its own, and a formula is best on one line."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def print_count(config: RunConfig, found: TargetList, formula: Formula) -> None:
    """The targets, the formula of each kind of group, and the total."""
    console = make_console()
    adapter = config.adapter
    console.print(Text(f"{adapter.variant or 'superlora'} on {found.model}", "bold"))
    _print_targets(console, found)
    for group in formula.groups:
        console.print()
        console.print(Text(_heading(group)))
        print_indented(console, _sizes(adapter, group), "dim")
        print_indented(console, group.text)
    console.print()
    if len(formula.groups) > 1 or len(formula.groups[0].indices) > 1:
        console.print(Text(formula.text))
    share = formula.count / found.weights
    console.print(
        Text.assemble(
            (f"{formula.count:,} numbers train", "bold"),
            f", {_percent(share)} of N, at learning rate {config.learning_rate:g}",
        )
    )


def print_inventory(config: RunConfig, inventory: Inventory) -> None:
    """What trains in a run of another method, tensors of one shape together."""
    console = make_console()
    console.print(Text(f"{family_of(config)} on {config.base.path or 'a fresh network'}", "bold"))
    print_indented(console, inventory.what)
    for note in inventory.notes:
        print_indented(console, f"note: {note}", "yellow")
    console.print()
    table = plain_table(("parameters", "right"), ("tensors", "right"), ("shape", "left"), ("such as", "left"))
    for found in inventory.shapes:
        shape = " x ".join(f"{side:,}" for side in found.shape) or "1"
        row = (f"{found.parameters:,}", f"{len(found.names):,}", shape, found.names[0])
        table.add_row(*map(Text, row))
    console.print(table)
    console.print()
    tensors = sum(len(found.names) for found in inventory.shapes)
    console.print(
        Text.assemble(
            (f"{inventory.parameters:,} numbers train", "bold"),
            f" in {tensors:,} tensors, at learning rate {config.learning_rate:g}",
        )
    )


def print_listing(found: Found, top: int) -> None:
    """The best settings as a table, then a line to paste for each."""
    console = make_console()
    listing = found.listing
    shown = listing.choices[:top]
    console.print(Text(f"At most {listing.budget:,} numbers on {found.targets.model}", "bold"))
    _print_targets(console, found.targets)
    fit = f"{len(listing.choices):,} of {listing.examined:,} settings fit"
    console.print(Text(f"{fit}; the best {len(shown)}:" if len(shown) < len(listing.choices) else f"{fit}:"))
    console.print(_listing_table(found, shown, console.width >= _WIDE))
    if len(listing.best_of_families) > 1:
        best = ", ".join(f"{family} {count:,}" for family, count in listing.best_of_families.items())
        console.print(Text(f"Best of each family (narrow with --families): {best}"))
    if found.train:
        console.print(Text("To train one, append its line to this command:"))
        console.print(Text(f"   {found.train}"), soft_wrap=True)
    else:
        console.print(Text("Lines for a config's adapter (train itself takes no base of this kind):"))
    for number, choice in enumerate(shown, 1):
        # Unwrapped, so that a line can be copied whole from a narrow terminal.
        line = Text.assemble((f"{number:>2} ", "dim"), shlex.join(found.overrides(choice)))
        console.print(line, soft_wrap=True)


def _listing_table(found: Found, shown: Sequence, wide: bool) -> Table:
    columns = [("", "right"), ("parameters", "right"), ("of budget", "right")]
    columns += [("setting", "left"), ("formula", "left")] if wide else [("setting and formula", "left")]
    table = plain_table(*columns)
    for number, choice in enumerate(shown, 1):
        setting, formula = Text(choice.text), Text(choice.formula.products, "" if wide else "dim")
        share = f"{100 * choice.count / found.listing.budget:.1f} %"
        cells = [Text(str(number), "dim"), Text(f"{choice.count:,}", "bold"), Text(share)]
        table.add_row(*cells, *([setting, formula] if wide else [Text("\n").join([setting, formula])]))
    return table


def plain_table(*columns: tuple[str, str]) -> Table:
    """A table without lines, of (heading, justification) columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading, justify in columns:
        one_line = heading == "such as"
        overflow = "ellipsis" if one_line else "fold"
        table.add_column(heading, justify=justify, overflow=overflow, no_wrap=one_line)
    return table


def _print_targets(console: Console, found: TargetList) -> None:
    shapes = [f"{count} of {rows} x {columns}" for (rows, columns), count in found.shapes.items()]
    print_indented(console, f"{', '.join(found.patterns)}: {found.counted}, N = {found.weights:,} weights")
    print_indented(console, ", ".join(shapes), "dim")


def print_indented(console: Console, text: str, style: str = "") -> None:
    """A paragraph two columns in."""
    console.print(Padding(Text(text, style), (0, 0, 0, 2)))


def _heading(group: GroupFormula) -> str:
    """``groups g0 to g11 (x 12)``: as in the names of the stored tensors."""
    runs = []
    for _, run in groupby(enumerate(group.indices), lambda pair: pair[1] - pair[0]):
        places = [index for _, index in run]
        runs.append(f"g{places[0]}" if len(places) == 1 else f"g{places[0]} to g{places[-1]}")
    shown = list(islice(runs, 5))
    names = ", ".join(shown) + (", ..." if len(runs) > len(shown) else "")
    return f"group {names}" if len(group.indices) == 1 else f"groups {names} (x {len(group.indices):,})"


def _sizes(adapter: SuperLoRAConfig, group: GroupFormula) -> str:
    """n, m and the folded shape in words."""
    shapes = [" x ".join(f"{side:,}" for side in shape) for shape in group.folded]
    folded = shapes[0] if len(shapes) == 1 else " kron ".join(f"({shape})" for shape in shapes)
    if group.cut:
        folded += f" cut to {' x '.join(f'{side:,}' for side in group.cut)}"
    by = "" if adapter.projection == "none" else f", spread over n by {adapter.projection}"
    return f"n = {group.n:,} weights, m = {group.m:,} generated{by}; folded: {folded}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
