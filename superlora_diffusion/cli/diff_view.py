"""How ``diff`` prints: what two adapters are side by side, then how near their updates are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from .inspect_view import plain_value, print_scores
from .measures_view import add_rows, number
from .params_view import make_console, plain_table, print_indented

if TYPE_CHECKING:
    from ..runs.comparison import Comparison, TargetComparison
    from ..runs.inspection import Inspection

_NONE = "-"
_LEGEND = (
    "distance: |A - B| / max(|A|, |B|), Frobenius norms. cosine: of A and B as vectors. left, right: the overlap "
    "|U^T V|^2 / min(i, j) of the spaces of the first i left (right) singular directions of A and j of B, 0 for "
    "orthogonal and 1 for one in the other (Hu et al. 2021, section 7.2); in brackets, of two random spaces."
)


def print_comparison(found: Comparison, all_rows: bool) -> None:
    """Facts, scores, targets and their sum."""
    console = make_console()
    console.print(Text(f"A: {found.one.name}: {found.one.folder}", "bold"))
    console.print(Text(f"B: {found.two.name}: {found.two.folder}", "bold"))
    console.print()
    table = plain_table(("", "left"), ("A", "left"), ("B", "left"))
    for name, one, two in _facts(found):
        style = "" if one != two else "dim"
        table.add_row(Text(name, "dim"), Text(one, style), Text(two, style))
    console.print(Padding(table, (0, 0, 0, 2)))
    console.print()
    for letter, inspection in (("A", found.one), ("B", found.two)):
        if inspection.history is not None and inspection.history.scores:
            print_scores(console, inspection.history.scores, f"{letter}'s scores")
    for problem in found.problems:
        console.print(Text(problem, "yellow"))
    _print_targets(console, found, all_rows)


def _facts(found: Comparison) -> Iterator[tuple[str, str, str]]:
    pair = found.one, found.two
    yield "method", *(inspection.method for inspection in pair)
    for name, values in found.settings.items():
        yield name, *(_NONE if value is None else plain_value(value) for value in values)
    if any(inspection.scale not in (None, 1) for inspection in pair):
        yield "effective scale", *(number(inspection.scale) or _NONE for inspection in pair)
    yield "base", *(inspection.base or "not told" for inspection in pair)
    if found.same_base is not None:
        yield "", *(["the same weights" if found.same_base else "other weights"] * 2)
    yield "parameters", *(f"{inspection.parameters:,}" for inspection in pair)
    yield "on disk", *(f"{sum(inspection.files.values()):,} bytes" for inspection in pair)
    yield "sha256", *(inspection.sha256[:12] for inspection in pair)
    yield from _training(*pair)


def _training(one: Inspection, two: Inspection) -> Iterator[tuple[str, str, str]]:
    """All that is known of how each was trained, a name a line."""
    told = [_told(inspection) for inspection in (one, two)]
    for name in dict.fromkeys([*told[0], *told[1]]):
        yield name, *(values.get(name, _NONE) for values in told)


def _told(found: Inspection) -> dict[str, str]:
    values: dict[str, Any] = {**found.training, "data": found.data.get("name")}
    if found.history is not None:
        values |= found.history.training | found.history.outcome
    return {
        name: f"{value:.5g}" if isinstance(value, float) else plain_value(value)
        for name, value in values.items()
        if value is not None
    }


def _print_targets(console: Console, found: Comparison, all_rows: bool) -> None:
    if found.targets:
        columns = ["|A|", "|B|", "distance", "cosine", "i, j", "left", "right"]
        table = plain_table(("target", "left"), *((name, "right") for name in columns))
        add_rows(table, found.targets, _cells, all_rows)
        console.print(table)
    for text in _sums(found):
        print_indented(console, text, "bold")
    if found.targets:
        print_indented(console, _LEGEND, "dim")


def _cells(target: TargetComparison) -> list[str]:
    near = target.closeness
    if near.distance is None:
        return [target.name, "not finite"]
    cells = [target.name, number(near.one_norm), number(near.two_norm), f"{near.relative_distance:.3f}"]
    cells.append(_NONE if near.cosine is None else f"{near.cosine:.3f}")
    found = near.subspaces
    if found is None:
        return [*cells, _NONE, _NONE, _NONE]
    cells.append(", ".join(map(str, found.directions)))
    return [*cells, _against(found.left, found.left_by_chance), _against(found.right, found.right_by_chance)]


def _against(overlap: float, chance: float) -> str:
    return f"{overlap:.2f} ({chance:.2f})"


def _sums(found: Comparison) -> Iterator[str]:
    joint = found.joint
    if joint is not None:
        angle = "" if joint.cosine is None else f", cosine {joint.cosine:.3f}"
        yield f"all together: |A| {number(joint.one_norm)}, |B| {number(joint.two_norm)}, distance " + (
            f"{joint.relative_distance:.3f}{angle}"
        )
        if joint.left is not None:
            yield (
                f"mean overlap: left {_against(joint.left, joint.left_by_chance)}, "
                f"right {_against(joint.right, joint.right_by_chance)}"
            )
    elif not found.problems:
        yield "Some updates hold numbers that are not finite, so that the joint updates have no distance."
    for who, names in (("A", found.only_one), ("B", found.only_two)):
        if names:
            yield f"targets of {who} alone ({len(names):,}): {_some(names)}"
    if found.unlike:
        yield f"targets whose weights differ in shape ({len(found.unlike):,}): {_some(found.unlike)}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
