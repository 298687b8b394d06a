"""``superlora-diff cache``: what is kept on disk, and getting rid of it."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import AsJson, print_json
from .completion import cache_kinds

_cache = typer.Typer(
    no_args_is_help=True,
    help="List and clear what was computed or downloaded once and kept.\n\nThe folder is named by the environment "
    "variable SUPERLORA_CACHE, else superlora-diffusion in the user's cache folder.",
)


def register(app: typer.Typer) -> None:
    app.add_typer(_cache, name="cache")


@_cache.command("ls", help="List the cache by kind.\n\nExample:\n\n  superlora-diff cache ls")
def ls(as_json: AsJson = False) -> None:
    from ..data.cache import cache_root, list_cache

    shelves = list_cache()
    if as_json:
        print_json({"folder": str(cache_root()), "kinds": [_row(shelf) for shelf in shelves]})
        return
    typer.echo(f"{cache_root()}")
    for shelf in shelves:
        typer.echo(f"  {shelf.name:12} {shelf.files:6} files {_readable(shelf.size):>10}  {shelf.note}")
    if not shelves:
        typer.echo("  (empty)")


@_cache.command(
    "clear",
    help="Delete one kind, or everything.\n\nExamples:\n\n  superlora-diff cache clear features\n\n"
    "  superlora-diff cache clear",
)
def clear(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="features, synthdigits or torchvision.", autocompletion=cache_kinds, show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    from ..data.cache import clear_cache

    gone = clear_cache(kind)
    if as_json:
        print_json([_row(shelf) for shelf in gone])
        return
    for shelf in gone:
        typer.echo(f"Deleted {shelf.files} files of {shelf.name}, {_readable(shelf.size)}.")
    if not gone:
        typer.echo("There was nothing to delete.")


def _row(shelf) -> dict:
    return {"name": shelf.name, "path": str(shelf.path), "files": shelf.files, "bytes": shelf.size}


def _readable(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
