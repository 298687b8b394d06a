"""``superlora-diff eval-acc``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .common import AsJson, BaseOfAdapter, Device, Quiet, Verbose, print_json, set_verbosity
from .completion import data_names

_HELP = """Score classifiers: accuracy on the test split, of all images and of each class, and the loss.

Takes runs of task classification, their adapters, and plain ViT classifiers. The base is scored beside its adapter
where both have the same classes. Records go to accuracy.json in the run folder (for all else into scores-NAME here);
what is scored already is not scored again. What draws images is scored by eval-is.

Examples:

  superlora-diff eval-acc runs/vit-mnist

  superlora-diff eval-acc runs/vit-mnist --data usps --json

  superlora-diff eval-acc runs/vit-small-synthdigits/base --data mnist-mini
"""


def register(app: typer.Typer) -> None:
    app.command("eval-acc", help=_HELP)(eval_acc)


def eval_acc(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_ADAPTER_OR_BASE",
            help="Run folders, adapter folders, folders of classifiers, or hub ids.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set whose test split is classified; the run's own.", autocompletion=data_names
        ),
    ] = None,
    only: Annotated[
        Literal["base", "adapter"] | None, typer.Option(help="Score only the base, or only what was trained.")
    ] = None,
    base: BaseOfAdapter = None,
    again: Annotated[bool, typer.Option("--again", help="Score also what is scored already.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    from ..data.loading import check_name

    if data is not None:
        check_name(data)
    set_verbosity(verbose)
    from ..devices import resolve_device
    from ..evaluation.accuracy import AccuracyRequest, accuracy_file, evaluate_accuracy
    from ..progress import Reporter

    request = AccuracyRequest(data=data, only=only, again=again, base=base, device=resolve_device(device))
    records: list = []
    for source in sources:
        with Reporter(f"classify {Path(source).name}", 0, "image", quiet=quiet) as reporter:
            records += evaluate_accuracy(source, request, reporter.restart, reporter.advance)
    if as_json:
        print_json([record.model_dump(mode="json") for record in records])
        return
    _print(records)
    for file in dict.fromkeys(map(accuracy_file, sources)):
        typer.echo(f"Records: {file}")


def _print(records: list[Any]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a log has no width of its own, and the names need some
    from ..evaluation.accuracy_table import accuracy_table, classes_table

    console.print(accuracy_table(records))
    console.print(classes_table(records))
