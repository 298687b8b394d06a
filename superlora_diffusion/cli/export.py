"""``superlora-diff export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import AdapterOrRun, AsJson, BaseOfAdapter, Quiet, Verbose, print_json, set_verbosity

if TYPE_CHECKING:
    from ..exchange.factors import ErrorReport

_HELP = """Write an adapter in the format of another tool: diffusers, peft, kohya, or merged weights.

All but merged store every update as two narrow matrices. A setting that is of low rank matrix by matrix (LoRA, LoTR)
is stored exactly; of any other each matrix is approximated, by default within a relative error of 0.01, and the error
is printed.

- diffusers: a folder for pipe.load_lora_weights(folder). Stable Diffusion 1, 2, XL, 3 and others that load LoRA files.

- peft: a folder for PeftModel.from_pretrained(network, folder). Any network, classifiers too.

- kohya: one .safetensors file for ComfyUI, A1111 and (not for Stable Diffusion 3) diffusers.

- merged: a whole pipeline or classifier, as merge writes it.

Examples:

  superlora-diff export runs/demo --format peft --out exported/demo-peft

  superlora-diff export runs/demo --format peft --out exported/rank-4 --rank 4

  superlora-diff export runs/demo --format merged --out exported/demo-pipeline
"""


def register(app: typer.Typer) -> None:
    app.command("export", help=_HELP)(export)


def export(
    source: AdapterOrRun,
    format: Annotated[str, typer.Option(help="diffusers, peft, kohya or merged.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="A new folder; for kohya a new .safetensors file.", show_default=False)
    ],
    rank: Annotated[int | None, typer.Option(help="Highest rank of any matrix.")] = None,
    max_error: Annotated[
        float | None, typer.Option(help="Highest relative error of any matrix; ranks follow from it.")
    ] = None,
    base: BaseOfAdapter = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    set_verbosity(verbose)
    from ..exchange.exporting import check_request, export_adapter, open_adapter
    from ..exchange.factors import Precision
    from ..progress import Reporter

    precision = Precision(rank, max_error)
    check_request(format, out, precision)
    attached = open_adapter(source, base)
    with Reporter("factor", len(attached.adapter.targets), "matrix", quiet=quiet) as reporter:
        written = export_adapter(attached, format, out, precision, reporter.advance)
    if as_json:
        print_json(written.as_dict())
        return
    if written.report is not None:
        print_errors(written.report)
    if not quiet:
        typer.echo(f"written: {written.path}")


def print_errors(report: ErrorReport) -> None:
    """How far the written factors are from the adapter, and what they cost."""
    ranks = sorted(report.ranks.values())
    span = f"{ranks[0]}" if ranks[0] == ranks[-1] else f"{ranks[0]} to {ranks[-1]}"
    name, worst = report.worst
    typer.echo(f"rank {span} in {len(ranks)} matrices")
    typer.echo(f"relative error {report.overall:.2g} overall, {worst:.2g} at worst ({name})")
    typer.echo(f"{report.stored:,} numbers stored; the adapter trains {report.parameters:,}")
