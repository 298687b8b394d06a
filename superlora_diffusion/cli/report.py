"""``superlora-diff report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import AsJson, Quiet, Verbose, print_json, set_verbosity

_HELP = """Show runs beside each other: score against trained parameters, as one page, as plots, as tables.

The page is a single file that opens without a network: chart with Pareto front, samples beside real images, curves,
commands, a table to sort and filter, and the best setting of each method under a budget. RUNS are run folders or
folders that contain some, such as a sweep's. Runs without scores are listed as such; score them with eval-is.

Examples:

  superlora-diff report runs --out report.html

  superlora-diff report runs/compare --out paper/front.html --format html,pdf,csv,latex --score fid

  superlora-diff report runs/demo runs/lora --out front.png --published
"""


def register(app: typer.Typer) -> None:
    app.command("report", help=_HELP)(report)


def report(
    runs: Annotated[
        list[str], typer.Argument(help="Run folders, or folders that contain some.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The page; other formats are written beside it.")] = Path(
        "report.html"
    ),
    format: Annotated[
        str | None,
        typer.Option(help="html, png, svg, pdf, csv, latex; several with commas. By default, by --out."),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="What plots and the page show: is_distance, fid, kid, accuracy, precision, recall, is_mean, val_loss."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page and of plots.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show the paper's thirteen points (another base and data).")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    set_verbosity(verbose)
    from ..report.report import Options, read_formats, write_report

    options = Options(out, read_formats(format, out), score, title, published)
    written = write_report(runs, options)
    if as_json:
        print_json(written)
    elif not quiet:
        _print(written)


def _print(written: dict) -> None:
    for file in written["files"]:
        typer.echo(f"{file['path']}  ({file['bytes'] / 1e6:.2f} MB)")
    typer.echo(f"{written['settings']} settings of {written['runs']} runs.")
    if len(written["protocols"]) > 1:
        typer.echo("They were scored in several ways; plots and LaTeX show the first, the page has a choice:")
        for number, protocol in enumerate(written["protocols"], 1):
            typer.echo(f"  ({number}) {protocol}")
    for item in written["left_out"]:
        typer.echo(f"without a score: {item['run']}: {item['why']}", err=True)
