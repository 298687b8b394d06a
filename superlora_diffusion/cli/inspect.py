"""``superlora-diff inspect``."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import AsJson, print_json
from .completion import config_names

_HELP = """Show what an adapter is: settings, base, parameters, size, and how its updates reach their layers.

An update is added to its layer's weight or, where it is of low rank and that costs less, applied as two small
products beside it. No network is loaded: all is read from the adapter's folder.

With --targets MODEL: which weights of a model patterns take, and their shapes. Patterns are those of a
config's targets, such as to_q, attn?.to_*, mid_block.**, attention or all-linear; no weights are read.

Examples:

  superlora-diff inspect runs/demo

  superlora-diff inspect runs/demo/adapter --json

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
    every: Annotated[
        bool, typer.Option("--all", help="With --targets: print every name, however many there are.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    if targets is not None:
        from .targets_view import show_targets

        show_targets(
            targets, [] if source is None else [source, *(patterns or [])], exclude or [], every, as_json
        )
        return
    _refuse_without_targets(source, patterns, exclude, every)
    from ..runs.inspection import inspect_adapter

    found = inspect_adapter(source)
    if as_json:
        print_json(found.as_dict())
        return
    from .inspect_view import print_inspection

    print_inspection(found)


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
        raise ConfigError(f"got {option} without --targets MODEL, which it goes with.")
