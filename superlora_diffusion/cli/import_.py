"""``superlora-diff import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import AsJson, Quiet, Verbose, print_json, set_verbosity

_HELP = """Read a LoRA of PEFT, diffusers or kohya (sd-scripts) as an adapter folder.

The format is recognised by itself. Names and shapes are checked against the base. Smaller ranks are padded to the
largest, and alpha is folded in, so that the adapter adds what the file says.

Examples:

  superlora-diff import exported/demo-peft --base synthdigits-16 --out adapters/from-peft

  superlora-diff import style.safetensors --base models/stable-diffusion --out adapters/style
"""


def register(app: typer.Typer) -> None:
    app.command("import", help=_HELP)(import_)


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE_OR_FOLDER",
            help="A .safetensors file, a folder with one, or a PEFT folder.",
            show_default=False,
        ),
    ],
    base: Annotated[str, typer.Option(help="The base it belongs to.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A new adapter folder.", show_default=False)],
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    set_verbosity(verbose)
    from ..exchange.importing import import_lora

    read = import_lora(source, base, out)
    if as_json:
        print_json(read.as_dict())
    elif not quiet:
        typer.echo(
            f"{read.format}: {read.targets} matrices at rank {read.rank}, {read.parameters:,} parameters"
        )
        typer.echo(f"written: {read.path}")
