"""``superlora-diff diff``."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import AsJson, Quiet, print_json, set_verbosity

_HELP = """Compare two adapters: settings, training, scores, and how near their updates are.

For each target of both: the distance |A - B| over the larger norm, the cosine between A and B as vectors, and how far
the directions that the two write to (left) and read from (right) overlap, beside what chance would give. All over:
the same for the joint updates, in which a target that one adapter lacks counts as 0.

No base is needed, except for the updates of other methods than SuperLoRA.

Examples:

  superlora-diff diff runs/lora runs/lorta

  superlora-diff diff runs/lora/adapter runs/lorta/adapter --directions 4 --all

  superlora-diff diff runs/lora runs/lorta --json
"""
_ADAPTER = "An adapter folder, or a finished run folder."


def register(app: typer.Typer) -> None:
    app.command("diff", help=_HELP)(diff)


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help=_ADAPTER, show_default=False)],
    two: Annotated[str, typer.Argument(metavar="B", help=_ADAPTER, show_default=False)],
    directions: Annotated[
        int | None,
        typer.Option(min=1, help="Leading singular directions to compare; by default each effective rank."),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Another base than the adapters name.")] = None,
    all_rows: Annotated[bool, typer.Option("--all", help="Every target in the table, however many.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    set_verbosity(False)
    from ..progress import Reporter
    from ..runs.comparison import compare_adapters

    with Reporter("compare", 0, "matrix", quiet=quiet) as reporter:

        def on_target(done: int, total: int) -> None:
            if done == 1:
                reporter.restart("compare", total)
            reporter.advance()

        found = compare_adapters(one, two, directions, base, on_target)
    if as_json:
        print_json(found.as_dict())
        return
    from .diff_view import print_comparison

    print_comparison(found, all_rows)
