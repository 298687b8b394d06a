"""The command line. One file a verb; each parses, calls one library function and prints.

No verb loads torch to print its help.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import app as page
from . import (
    cache,
    configs,
    diff,
    doctor,
    eval_acc,
    eval_is,
    export,
    extractor,
    import_,
    inspect,
    merge,
    params,
    push,
    report,
    sample,
    sweep,
    train,
)
from .common import ErrorReportingGroup

app = typer.Typer(
    name="superlora-diff",
    cls=ErrorReportingGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Fine-tune diffusion models with a handful of parameters, and see what they cost.",
    epilog="Start with: superlora-diff train --config demo",
)
train.register(app)
sample.register(app)
eval_is.register(app)
eval_acc.register(app)
sweep.register(app)
params.register(app)
inspect.register(app)
diff.register(app)
merge.register(app)
export.register(app)
import_.register(app)
report.register(app)
page.register(app)
push.register(app)
configs.register(app)
extractor.register(app)
cache.register(app)
doctor.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"superlora-diffusion {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    app()
