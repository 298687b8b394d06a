"""What images are drawn from: a run folder, an adapter folder with its base, or a base alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..adapters.fingerprint import exact_digest
from ..adapters.module import SuperLoRA
from ..adapters.storage import CONFIG, WEIGHTS, load_adapter, read_adapter_config
from ..errors import BaseModelError, ConfigError, RunError
from ..models.base import Base
from ..models.config import BaseSettings
from ..models.storage import load_base
from ..peers import Peer, load_peer
from ..peers.storage import is_peer
from .config import RunConfig
from .folder import RunFolder


@dataclass
class Source:
    """A base, perhaps with an adapter attached, perhaps from a run."""

    name: str
    base: Base
    adapter: SuperLoRA | Peer | None = None
    config: RunConfig | None = None
    """The run's config, where it came from a run folder."""
    weights: str = ""
    """Which weights: the first 12 hex digits of sha256 over the adapter's file; empty for a base."""
    base_digest: str = ""
    """Which base lies under a peer, taken before the peer's library renamed its weights; empty otherwise."""


def open_source(path: str, base: str | None = None) -> Source:
    """Open a run folder, an adapter folder or a base.

    Args:
        path: a finished run folder, a folder holding adapter_config.json, or what a base is named by.
        base: the base to use instead of the one that the run or the adapter names.

    Raises:
        RunError: for an unfinished run, or an adapter that does not say its base.
        BaseModelError, AdapterError: if a part cannot be loaded.
    """
    folder = Path(path).expanduser()
    if base is not None and not (folder / "adapter").is_dir() and not (folder / CONFIG).is_file():
        raise ConfigError(f"--base {base} goes with an adapter, and {path} holds none; leave it out.")
    if (folder / "config.yaml").is_file():
        return _open_run(folder, base)
    if (folder / CONFIG).is_file():
        return _open_adapter(folder, base)
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


def _open_adapter(folder: Path, base: str | None) -> Source:
    described = read_adapter_config(folder).get("base")
    stored = described if isinstance(described, dict) else {}
    if base is None and stored.get("id") is None:
        raise RunError(f"{folder} does not say which base it was trained on; give it with --base.")
    remembered = stored.get("settings") or {}
    settings = BaseSettings(path=base) if base else BaseSettings(path=stored["id"], **remembered)
    try:
        return _attach(folder.resolve().name, folder, settings, None)
    except BaseModelError as error:
        raise BaseModelError(
            f"{folder}: {error} Another place of its base can be given with --base."
        ) from error


def _attach(name: str, folder: Path, settings: BaseSettings, config: RunConfig | None) -> Source:
    loaded = load_base(settings)
    weights = (
        _digest(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else ""
    )  # loading says what is missing
    if is_peer(read_adapter_config(folder)):
        digest = base_digest(loaded)
        return Source(name, loaded, load_peer(loaded.network, folder), config, weights, digest)
    return Source(name, loaded, load_adapter(loaded.network, folder), config, weights)


def base_digest(base: Base) -> str:
    """The first 12 hex digits of sha256 over a base's weights; not while an adapter is merged."""
    return exact_digest(base.network.state_dict())


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
