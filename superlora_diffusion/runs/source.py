"""What images are drawn from: a run folder, an adapter folder with its base, or a base alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..adapters.fingerprint import exact_digest
from ..adapters.module import SuperLoRA
from ..adapters.reading import CONFIG, WEIGHTS, read_adapter_config
from ..adapters.remote import download_adapter
from ..adapters.storage import load_adapter
from ..errors import BaseModelError, ConfigError, HubError, RunError
from ..hub.download import is_hub_id
from ..models.base import Base
from ..models.config import BaseSettings
from ..models.storage import load_base
from ..peers import Peer, load_peer
from ..peers.storage import is_peer
from .config import RunConfig
from .folder import RunFolder
from .published import RUN_CONFIG, read_published


@dataclass
class Source:
    """A base, perhaps with an adapter attached, perhaps from a run."""

    name: str
    base: Base
    adapter: SuperLoRA | Peer | None = None
    config: RunConfig | None = None
    """The run's config, where it came from a run folder or was published with the adapter."""
    weights: str = ""
    """Which weights: the first 12 hex digits of sha256 over the adapter's file; empty for a base."""
    base_digest: str = ""
    """Which base lies under a peer, taken before the peer's library renamed its weights; empty otherwise."""
    folder: Path | None = None
    """Where the adapter's files lie."""


def open_source(path: str, base: str | None = None) -> Source:
    """Open a run folder, an adapter folder, an adapter on the hub, or a base.

    Args:
        path: a finished run folder, a folder holding adapter_config.json, a hub id whose repository has that file, or
            what a base is named by. What is on this machine wins over the hub.
        base: the base to use instead of the one that the run or the adapter names.

    Raises:
        RunError: for an unfinished run, or an adapter that does not say its base.
        BaseModelError, AdapterError: if a part cannot be loaded.
        HubError: if the hub does not give what is no folder here.
    """
    folder = Path(path).expanduser()
    published = download_published(path)
    if published is not None:
        return _open_adapter(published, base, path, read_published(published))
    if base is not None and not (folder / "adapter").is_dir() and not (folder / CONFIG).is_file():
        raise ConfigError(f"--base {base} goes with an adapter, and {path} holds none; leave it out.")
    if (folder / "config.yaml").is_file():
        return _open_run(folder, base)
    if (folder / CONFIG).is_file():
        return _open_adapter(folder, base, str(folder))
    return Source(folder.name or path, load_base(BaseSettings(path=path)))


def _open_run(folder: Path, base: str | None) -> Source:
    run = RunFolder(folder)
    config = run.read_config()
    if not run.is_finished(config):
        raise RunError(
            f"{folder} is not finished. Go on with: "
            f"superlora-diff train --config {run.config} output={folder}"
        )
    name = folder.resolve().name
    if config.method == "full":
        return Source(name, load_base(BaseSettings(path=str(run.base))), None, config)
    settings = config.base if base is None else BaseSettings(path=base)
    return _attach(name, run.adapter, settings, config)


def download_published(path: str) -> Path | None:
    """The cached folder of an adapter on the hub; None for what is here already, is no hub id, or is a base.

    Raises:
        HubError, AdapterError: see :func:`download_adapter`.
    """
    if Path(path).expanduser().exists() or not is_hub_id(path):
        return None
    try:
        return download_adapter(path, also=[RUN_CONFIG], what="repository")
    except HubError as error:
        raise HubError(f"{path} is no folder here. As a hub id: {error}", error.reason) from error


def _open_adapter(folder: Path, base: str | None, told: str, config: RunConfig | None = None) -> Source:
    """``told`` is the folder or the hub id, as messages call it."""
    described = read_adapter_config(folder).get("base")
    stored = described if isinstance(described, dict) else {}
    if base is None and stored.get("id") is None:
        raise RunError(f"{told} does not say which base it was trained on; give it with --base.")
    remembered = stored.get("settings") or {}
    settings = BaseSettings(path=base) if base else BaseSettings(path=stored["id"], **remembered)
    try:
        return _attach(Path(told).resolve().name, folder, settings, config)
    except BaseModelError as error:
        raise BaseModelError(
            f"{told}: {error} Another place of its base can be given with --base."
        ) from error


def _attach(name: str, folder: Path, settings: BaseSettings, config: RunConfig | None) -> Source:
    loaded = load_base(settings)
    weights = (
        _digest(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else ""
    )  # loading says what is missing
    if is_peer(read_adapter_config(folder)):
        digest = base_digest(loaded)
        return Source(name, loaded, load_peer(loaded.network, folder), config, weights, digest, folder)
    adapter = load_adapter(loaded.network, folder)
    return Source(name, loaded, adapter, config, weights, folder=folder)


def base_digest(base: Base) -> str:
    """The first 12 hex digits of sha256 over a base's weights; not while an adapter is merged."""
    return exact_digest(base.network.state_dict())


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
