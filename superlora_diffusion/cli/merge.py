"""``superlora-diff merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import AdapterOrRun, AsJson, BaseOfAdapter, Quiet, Verbose, print_json, set_verbosity

_HELP = """Write the base's pipeline with an adapter's update in its weights.

DiffusionPipeline.from_pretrained(folder) of plain diffusers loads it. All other components are copied from the base as
they are; README.md and superlora_merge.json say what was merged. Of an adapted classifier it is a folder for
ViTForImageClassification.from_pretrained, with the head that was trained.

Examples:

  superlora-diff merge runs/demo --out merged/demo

  superlora-diff merge runs/demo/adapter --scale 0.5 --out merged/half
"""


def register(app: typer.Typer) -> None:
    app.command("merge", help=_HELP)(merge)


def merge(
    source: AdapterOrRun,
    out: Annotated[Path, typer.Option(help="A new folder.", show_default=False)],
    scale: Annotated[float | None, typer.Option(help="Scale of the adapter's update.")] = None,
    base: BaseOfAdapter = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    set_verbosity(verbose)
    from ..exchange.exporting import check_request, merge_adapter, open_adapter
    from ..exchange.factors import Precision

    check_request("merged", out, Precision())
    attached = open_adapter(source, base)
    written = merge_adapter(attached, out, scale)
    if as_json:
        print_json({**written.as_dict(), "scale": attached.adapter.scale})
    elif not quiet:
        typer.echo(f"written: {written.path}")
