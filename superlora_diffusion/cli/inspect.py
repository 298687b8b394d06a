"""``superlora-diff inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import AsJson, Quiet, print_json
from .completion import config_names

_HELP = """Show what an adapter is: settings, base, parameters, training, scores, how its updates reach their layers.

An update is added to its layer's weight or, where it is of low rank and that costs less, applied as two small
products beside it. All this is read from the folder, and no network is loaded.

With --measure: how large the update dW of each weight W is, too. Its norm against that of W, its largest singular
value, and its effective rank: over how many directions it is spread. W is read from the base; where that cannot be
had, the rest is shown.

With --targets MODEL: which weights of a model patterns take, and their shapes. Patterns are those of a
config's targets, such as to_q, attn?.to_*, mid_block.**, attention or all-linear; no weights are read.

Examples:

  superlora-diff inspect runs/demo

  superlora-diff inspect runs/demo/adapter --json

  superlora-diff inspect runs/demo --measure --all

  superlora-diff inspect runs/demo --out runs/demo/inspection

  superlora-diff inspect --targets synthdigits-16 attention --exclude 'mid_block.**'
"""


def register(app: typer.Typer) -> None:
    app.command("inspect", help=_HELP)(inspect)


def inspect(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="ADAPTER_OR_RUN",
            help="An adapter folder, a finished run folder, or a hub id.",
            show_default=False,
        ),
    ] = None,
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATTERN",
            help="With --targets, and then without an adapter: what to take, to_q and to_v by default.",
            show_default=False,
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="List the targets on a base's name or folder, a config.json, a hub id, or a packaged config.",
            autocompletion=config_names,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="With --targets: a pattern to leave out; may be repeated.", metavar="PATTERN"),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Norms, singular values and ranks of the updates, too.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Another base than the adapter names; implies --measure.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for heatmap.png and inspection.json; implies --measure."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="With --targets or --measure: print every row, however many there are."),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    measure = bool(measure or base or out)
    if targets is not None:
        _refuse_beside_targets(measure)
        from .targets_view import show_targets

        show_targets(
            targets, [] if source is None else [source, *(patterns or [])], exclude or [], every, as_json
        )
        return
    _refuse_without_targets(source, patterns, exclude, every and not measure)
    from ..runs.inspection import inspect_adapter
    from .inspect_view import print_hint, print_inspection

    found = inspect_adapter(source)
    if not as_json:  # before the base is loaded, which may take long
        print_inspection(found)
    if measure:
        from .measures_view import show_measures

        show_measures(source, found, base, out, every, as_json, quiet)
    elif as_json:
        print_json(found.as_dict())
    else:
        print_hint()


def _refuse_beside_targets(measure: bool) -> None:
    from ..errors import ConfigError

    if measure:
        raise ConfigError("got --targets MODEL with --measure, --base or --out, which go with an adapter.")


def _refuse_without_targets(
    source: str | None, patterns: list[str] | None, exclude: list[str] | None, every: bool
) -> None:
    from ..errors import ConfigError

    if source is None:
        raise ConfigError(
            "give an adapter folder or a run folder, or --targets MODEL to see what targets take."
        )
    given = {"PATTERN": patterns, "--exclude": exclude, "--all": every}
    option = next((name for name, value in given.items() if value), None)
    if option is not None:
        other = " or --measure" if option == "--all" else ""
        raise ConfigError(f"got {option} without --targets MODEL{other}, which it goes with.")
