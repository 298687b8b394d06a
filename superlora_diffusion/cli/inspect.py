"""``superlora-diff inspect``."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import AsJson, print_json

_HELP = """Show what an adapter is: settings, base, parameters, size, and how its updates reach their layers.

An update is added to its layer's weight or, where it is of low rank and that costs less, applied as two small
products beside it. No network is loaded: all is read from the adapter's folder.

Examples:

  superlora-diff inspect runs/demo

  superlora-diff inspect runs/demo/adapter --json
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
    as_json: AsJson = False,
) -> None:
    from ..runs.inspection import inspect_adapter

    found = inspect_adapter(source)
    if as_json:
        print_json(found.as_dict())
        return
    from .inspect_view import print_inspection

    print_inspection(found)
