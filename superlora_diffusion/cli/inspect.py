"""``superlora-diff inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import AsJson, Quiet, print_json, set_verbosity

if TYPE_CHECKING:
    from ..runs.inspection import Inspection
    from ..runs.measuring import Measures

_HELP = """Show what an adapter is: settings, base, parameters, training, scores, how its updates reach their layers.

An update is added to its layer's weight or, where it is of low rank and that costs less, applied as two small
products beside it. All this is read from the folder, and no network is loaded.

With --measure, also how large the update dW of each weight W is: its norm against that of W, its largest singular
value, and its effective rank, over how many directions it is spread. W is read from the base; where that cannot be
had, the rest is shown.

Examples:

  superlora-diff inspect runs/demo

  superlora-diff inspect runs/demo/adapter --json

  superlora-diff inspect runs/demo --measure --all

  superlora-diff inspect runs/demo --out runs/demo/inspection
"""


def register(app: typer.Typer) -> None:
    app.command("inspect", help=_HELP)(inspect)


def inspect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ADAPTER_OR_RUN", help="An adapter folder, or a finished run folder.", show_default=False
        ),
    ],
    measure: Annotated[
        bool, typer.Option("--measure", help="Norms, singular values and ranks of the updates, too.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Another base than the adapter names; implies --measure.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for heatmap.png and inspection.json; implies --measure."),
    ] = None,
    all_rows: Annotated[bool, typer.Option("--all", help="Every target in the table, however many.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    from ..runs.inspection import inspect_adapter
    from .inspect_view import print_hint, print_inspection

    found, measured = inspect_adapter(source), bool(measure or base or out)
    told = found.as_dict()
    if not as_json:  # before the base is loaded, which may take long
        print_inspection(found)
    if measured:
        measures = _measure(source, found, base, quiet)
        told["measures"] = measures.as_dict()
        written = [] if out is None else _write(out, told, found, measures)
    if as_json:
        print_json(told)
    elif measured:
        from .measures_view import print_measures

        print_measures(measures, written, all_rows)
    else:
        print_hint()


def _measure(source: str, found: Inspection, base: str | None, quiet: bool) -> Measures:
    set_verbosity(False)
    from ..progress import Reporter
    from ..runs.measuring import measure_adapter

    total = 0 if found.targets is None else found.targets.count
    with Reporter("measure", total, "matrix", quiet=quiet) as reporter:
        return measure_adapter(source, base, reporter.advance)


def _write(out: Path, told: dict[str, Any], found: Inspection, measures: Measures) -> list[Path]:
    from ..files import write_json
    from ..runs.heatmap import save_heat_map
    from ..runs.measuring import heat_map_of

    written = [out / "inspection.json"]
    write_json(written[0], told)
    if measures.targets:
        written.append(out / "heatmap.png")
        save_heat_map(
            heat_map_of(measures, f"{found.name}: {'/'.join(found.folder.resolve().parts[-2:])}"), written[1]
        )
    return written
