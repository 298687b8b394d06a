"""``superlora-diff configs``: the packaged configs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_configs = typer.Typer(no_args_is_help=True, help="List, copy and check configs.")


def register(app: typer.Typer) -> None:
    app.add_typer(_configs, name="configs")


@_configs.command("ls", help="List the packaged configs.\n\nExample:\n\n  superlora-diff configs ls")
def ls() -> None:
    from ..runs.loading import packaged_configs

    for name, path in packaged_configs().items():
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        typer.echo(f"{name:24} {first}")


@_configs.command(
    "cp", help="Copy a packaged config.\n\nExample:\n\n  superlora-diff configs cp demo mine.yaml"
)
def cp(name: str, target: Path) -> None:
    from ..errors import ConfigError
    from ..files import write_text
    from ..runs.loading import find_config

    if target.exists():
        raise ConfigError(f"{target} exists already; give another name.")
    write_text(target, find_config(name).read_text(encoding="utf-8"))
    typer.echo(f"Train it with: superlora-diff train --config {target}")


@_configs.command(
    "validate",
    help="Check a config without loading anything.\n\nExample:\n\n  superlora-diff configs validate demo",
)
def validate(
    name: str,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", show_default=False)
    ] = None,
) -> None:
    from ..runs.loading import load_config

    config = load_config(name, overrides or [])
    if config.is_peer:
        from ..peers import check_peer

        check_peer(config.method, config.peer_settings)
    typer.echo(f"{name} is valid.")
