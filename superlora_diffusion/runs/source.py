"""What images are drawn from: a run folder, an adapter folder with its base, or a base alone; see also ``mix``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..adapters.bank import AdapterBank
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


@dataclass(frozen=True)
class Used:
    """An adapter that takes part in what images are drawn from."""

    name: str
    source: str
    """The folder or hub id, as it was given."""
    weight: float
    parameters: int
    digest: str
    """The first 12 hex digits of sha256 over its file."""


@dataclass
class Source:
    """A base, perhaps with an adapter or several attached, perhaps from a run."""

    name: str
    base: Base
    adapter: SuperLoRA | AdapterBank | Peer | None = None
    config: RunConfig | None = None
    """The run's config, where it came from a run folder or was published with the adapter."""
    weights: str = ""
    """Which weights: the first 12 hex digits of sha256 over the adapter's file or over a mix; empty for a base."""
    base_digest: str = ""
    """Which base lies under a peer, taken before the peer's library renamed its weights; empty otherwise."""
    folder: Path | None = None
    """Where the adapter's files lie; None for a mix."""
    mixed: tuple[Used, ...] = ()
    """The adapters of a mix, whose bank is the adapter."""


@dataclass(frozen=True)
class Found:
    """An adapter with what it says of its base; nothing is loaded."""

    name: str
    told: str
    """The folder or the hub id, as messages call it."""
    folder: Path
    base: BaseSettings | None
    """None where it does not say its base."""
    config: RunConfig | None = None
    """Its run's config, where it came from a run folder or was published with it."""


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
    found = find_stored(path)
    if found is not None:
        return _attach(found, load_base_of(found, base))
    if base is not None:
        raise ConfigError(f"--base {base} goes with an adapter, and {path} holds none; leave it out.")
    folder = Path(path).expanduser()
    if (folder / "config.yaml").is_file():
        run = RunFolder(folder)
        config = run.read_config()
        settings = BaseSettings(path=str(run.base), variant=config.base.variant)
        return Source(folder.resolve().name, load_base(settings), None, config)
    return Source(folder.name or path, load_base(BaseSettings(path=path)))


def find_stored(path: str) -> Found | None:
    """The adapter that a run folder, an adapter folder or a hub id holds; None for a base and for a run of method full.

    Raises:
        RunError: for an unfinished run.
        AdapterError: for an adapter's config that is broken or another library's.
        HubError: if the hub does not give what is no folder here.
    """
    published = download_published(path)
    if published is not None:
        base, config = _named_base(published), read_published(published)
        return Found(Path(path).resolve().name, path, published, base, config)
    folder = Path(path).expanduser()
    name = folder.resolve().name
    if (folder / "config.yaml").is_file():
        run = RunFolder(folder)
        config = run.read_config()
        if not run.is_finished(config):
            raise RunError(
                f"{folder} is not finished. Go on with: "
                f"superlora-diff train --config {run.config} output={folder}"
            )
        return None if config.method == "full" else Found(name, path, run.adapter, config.base, config)
    if (folder / CONFIG).is_file():
        return Found(name, str(folder), folder, _named_base(folder))
    return None


def _named_base(folder: Path) -> BaseSettings | None:
    described = read_adapter_config(folder).get("base")
    stored = described if isinstance(described, dict) else {}
    if stored.get("id") is None:
        return None
    return BaseSettings(path=stored["id"], **(stored.get("settings") or {}))


def load_base_of(found: Found, base: str | None) -> Base:
    """The base of an adapter, or the one that is named instead.

    Raises:
        RunError: for an adapter that does not say its base.
        BaseModelError: if it cannot be loaded.
    """
    settings = found.base if base is None else BaseSettings(path=base)
    if settings is None:
        raise RunError(f"{found.told} does not say which base it was trained on; give it with --base.")
    try:
        return load_base(settings)
    except BaseModelError as error:
        raise BaseModelError(
            f"{found.told}: {error} Another place of its base can be given with --base."
        ) from error


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


def _attach(found: Found, base: Base) -> Source:
    weights, folder = digest_of(found), found.folder
    if is_peer(read_adapter_config(folder)):
        digest = base_digest(base)
        return Source(
            found.name, base, load_peer(base.network, folder), found.config, weights, digest, folder
        )
    adapter = load_adapter(base.network, folder)
    return Source(found.name, base, adapter, found.config, weights, folder=folder)


def digest_of(found: Found) -> str:
    """The first 12 hex digits of sha256 over an adapter's file; empty where it is missing, which loading tells."""
    file = found.folder / WEIGHTS
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else ""


def base_digest(base: Base) -> str:
    """The first 12 hex digits of sha256 over a base's weights; not while an adapter is merged."""
    return exact_digest(base.network.state_dict())
