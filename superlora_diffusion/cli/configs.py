"""``superlora-diff configs``: the packaged configs, and checking one's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .common import AsJson, print_json, set_verbosity
from .completion import any_config_names

_configs = typer.Typer(no_args_is_help=True, help="List, copy and check configs of runs and sweeps.")
_Name = Annotated[
    str,
    typer.Argument(
        help="A packaged name, or a YAML file.", autocompletion=any_config_names, show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    app.add_typer(_configs, name="configs")


@_configs.command("ls", help="List the packaged configs.\n\nExample:\n\n  superlora-diff configs ls")
def ls(as_json: AsJson = False) -> None:
    from ..runs.loading import packaged_configs, packaged_sweeps

    found = [("run", *item) for item in packaged_configs().items()]
    found += [("sweep", *item) for item in packaged_sweeps().items()]
    rows = [
        {"name": name, "kind": kind, "title": _title(path), "file": str(path)} for kind, name, path in found
    ]
    if as_json:
        print_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        typer.echo(f"{row['name']:{width}}  {row['title']}")


def _title(path: Path) -> str:
    """A config's first line says what it trains."""
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


@_configs.command(
    "cp",
    help="Copy a packaged config. Folders are made; into a folder that is there it goes by its own name.\n\n"
    "Examples:\n\n  superlora-diff configs cp demo mine.yaml\n\n"
    "  superlora-diff configs cp sweeps/paper-small mine/small.yaml",
)
def cp(
    name: _Name,
    target: Annotated[Path, typer.Argument(help="The new file, or a folder.", show_default=False)],
) -> None:
    from ..errors import ConfigError
    from ..files import write_text
    from ..runs.loading import read_values
    from ..sweeps.validation import find_any, kind_of

    found = find_any(name)
    target = target.expanduser()
    if target.is_dir():
        target = target / found.name
    if target.exists():
        raise ConfigError(f"{target} exists already; give another name.")
    write_text(target, found.read_text(encoding="utf-8"))
    verb = "sweep" if kind_of(read_values(found)) == "sweep" else "train"
    typer.echo(f"{verb.capitalize()} it with: superlora-diff {verb} --config {shlex.quote(str(target))}")


@_configs.command(
    "validate",
    help="Check a config or a sweep without loading anything; every fault is told.\n\n"
    "Examples:\n\n  superlora-diff configs validate demo\n\n"
    "  superlora-diff configs validate mine.yaml train.steps=500 --json",
)
def validate(
    name: _Name,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    from ..errors import ConfigError
    from ..sweeps.validation import validate as check

    set_verbosity(False)  # checking a peer's settings loads its library
    verdict = check(name, overrides or [])
    if as_json:
        print_json(verdict.as_dict())
        if not verdict.valid:
            raise typer.Exit(ConfigError.exit_code)
        return
    if not verdict.valid:
        lines = [f"  {path}: {text}" if path else f"  {text}" for path, text in verdict.faults]
        raise ConfigError("\n".join([f"{verdict.kind} config {name}:", *lines]), faults=verdict.faults)
    cells = "" if verdict.cells is None else f": {verdict.cells} cells"
    typer.echo(f"{name} is valid{cells}.")
