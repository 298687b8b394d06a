"""What the verbs share: options, the console, and one place where errors become messages."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import SuperLoRAError

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps, or auto for the best there is.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but results and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print what the libraries say, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


AdapterOrRun = Annotated[
    str,
    typer.Argument(
        metavar="ADAPTER_OR_RUN", help="An adapter folder, or a finished run folder.", show_default=False
    ),
]
BaseOfAdapter = Annotated[str | None, typer.Option(help="Another base than the adapter names.")]


class ErrorReportingGroup(TyperGroup):
    """Prints our own errors as messages, exits with their code. Anything else is our fault: a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SuperLoRAError as error:
            typer.echo(f"{error.label}: {error}", err=True)
            raise typer.Exit(error.exit_code) from None


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2, default=str))


def split_words(text: str) -> tuple[str, ...]:
    """``a,b`` or ``[a, b]`` as ("a", "b"). Brackets inside, and commas in them, are a pattern's: ``to_[kv]``."""
    inner = text.strip()
    if re.fullmatch(r"\[([^\[\]]|\[[^\[\]]*\])*\]", inner):
        inner = inner[1:-1]
    return tuple(word.strip() for word in re.split(r",(?![^\[]*\])", inner))


def set_verbosity(verbose: bool) -> None:
    """Silence the libraries' chatter, unless it was asked for; our own warnings are printed as messages.

    For the libraries' sake this is done by the environment, too: each sets its own level when it is imported.
    """
    import logging

    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for name in ("diffusers", "transformers", "accelerate"):
        os.environ[f"{name.upper()}_VERBOSITY"] = logging.getLevelName(level).lower()
        logging.getLogger(name).setLevel(level)
    if not verbose:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=UserWarning, module=r"superlora_diffusion\.")
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"warning: {message}", err=True)
