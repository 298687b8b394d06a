"""What the verbs share: options, the console, and one place where errors become messages."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import SuperLoRAError

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps, or auto for the best there is.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


class ErrorReportingGroup(TyperGroup):
    """Prints our own errors as messages and exits with their code. Anything else is a fault of ours: a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SuperLoRAError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2, default=str))


def set_verbosity(verbose: bool) -> None:
    """Silence the libraries' chatter, unless it was asked for."""
    import logging

    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for name in ("diffusers", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(level)
