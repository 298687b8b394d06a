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
    from ..runs.loading import packaged_configs, packaged_sweeps

    for name, path in {**packaged_configs(), **packaged_sweeps()}.items():
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        typer.echo(f"{name:24} {first}")


@_configs.command(
    "cp", help="Copy a packaged config.\n\nExample:\n\n  superlora-diff configs cp demo mine.yaml"
)
def cp(name: str, target: Path) -> None:
    from ..errors import ConfigError
    from ..files import write_text
    from ..runs.loading import find_config, find_in, packaged_sweeps

    if target.exists():
        raise ConfigError(f"{target} exists already; give another name.")
    is_sweep = name in packaged_sweeps()
    found = find_in(name, "sweep") if is_sweep else find_config(name)
    write_text(target, found.read_text(encoding="utf-8"))
    verb = "sweep" if is_sweep else "train"
    typer.echo(f"{verb.capitalize()} it with: superlora-diff {verb} --config {target}")


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
    from ..runs.loading import load_config, packaged_sweeps

    if name in packaged_sweeps():
        from ..sweeps.cells import list_cells
        from ..sweeps.config import load_sweep

        cells = list_cells(load_sweep(name, overrides or []))
        typer.echo(f"{name} is valid: {len(cells)} cells.")
        return
    config = load_config(name, overrides or [])
    if config.is_peer:
        from ..peers import check_peer

        check_peer(config.method, config.peer_settings)
    typer.echo(f"{name} is valid.")
