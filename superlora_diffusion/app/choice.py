"""What a path names, before anything is loaded: an adapter with its base, or a base alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..adapters.reading import WEIGHTS, read_adapter_config
from ..errors import AdapterError, ConfigError, RunError
from ..models.config import BaseSettings
from ..models.storage import find_folder
from ..peers.storage import is_peer
from ..runs.config import RunConfig
from ..runs.folder import RunFolder
from ..runs.mix import place_of
from ..runs.source import Found, find_stored


@dataclass(frozen=True)
class Choice:
    """One run, adapter or base."""

    name: str
    told: str
    """As it was given."""
    base: BaseSettings
    config: RunConfig | None = None
    """Of its run, which says how to sample."""
    adapter: Found | None = None
    """None for a base, and for a run that trained every weight."""
    method: str | None = None
    """The method of an adapter that is another library's; None for ours."""


def look_up(path: str, base: str | None = None) -> Choice:
    """What a path names.

    Args:
        path: a run folder, an adapter folder, an adapter's hub id, or a base.
        base: the base to put an adapter on, instead of the one it names.

    Raises:
        RunError: for an unfinished run, or an adapter that does not say its base.
        AdapterError, BaseModelError, ConfigError, HubError: for what is broken or not there.
    """
    found = find_stored(path)
    if found is None:
        return _base_alone(path)
    settings = found.base if base is None else BaseSettings(path=base)
    if settings is None:
        raise RunError(
            f"{found.told} does not say which base it was trained on; start the page with --base BASE."
        )
    described = read_adapter_config(found.folder)
    method = str(described.get("method")) if is_peer(described) else None
    return Choice(found.name, path, place_of(settings), found.config, found, method)


def _base_alone(path: str) -> Choice:
    folder = Path(path).expanduser()
    name = folder.resolve().name or path
    if (folder / "config.yaml").is_file():
        run = RunFolder(folder)
        return Choice(name, path, place_of(BaseSettings(path=str(run.base))), run.read_config())
    find_folder(path)  # what is not there is told now, before what is loaded is let go
    return Choice(name, path, place_of(BaseSettings(path=path)))


def check_mix(choices: Sequence[Choice], base: str | None = None) -> None:
    """Whether the choices can be drawn from together.

    Raises:
        AdapterError: for a second choice without an adapter, or an adapter that cannot be mixed.
        ConfigError: for adapters of different bases.
    """
    if len(choices) < 2:
        return
    first, second = choices
    if second.adapter is None:
        raise AdapterError(f"{second.told} holds no adapter to mix in; a base is chosen as A.")
    for choice in (choice for choice in choices if choice.method is not None):
        raise AdapterError(
            f"{choice.told} was trained by method {choice.method!r}, and only SuperLoRA adapters can be mixed; "
            "choose it as A, and leave B empty."
        )
    if first.adapter is not None and base is None and first.base != second.base:
        raise ConfigError(
            f"the adapters stand on different bases. {first.told}: {told_base(first.base)}; {second.told}: "
            f"{told_base(second.base)}. Choose two of one base, or start the page with --base BASE to put both on one."
        )


def told_base(settings: BaseSettings) -> str:
    """A base as messages call it."""
    return settings.path or "built afresh"


def stamp(folder: Path | str | None) -> tuple[int, ...]:
    """What changes when a folder or file is written anew; empty for what is not there."""
    if folder is None or not Path(folder).exists():
        return ()
    told = Path(folder).stat()
    return (told.st_ino, told.st_mtime_ns, told.st_size)


def base_key(settings: BaseSettings) -> str:
    """The same for two bases exactly if one that is loaded can stand for the other."""
    return f"{settings.model_dump_json()} {stamp(settings.path)}"


def adapter_key(found: Found) -> str:
    """The same exactly if the adapter's file is the one that was read."""
    return f"{found.folder.resolve()} {stamp(found.folder / WEIGHTS)}"
