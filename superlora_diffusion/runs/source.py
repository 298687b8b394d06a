"""What images are drawn from: a run folder, an adapter folder with its base, or a base alone; see also ``mix``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..adapters.bank import AdapterBank
from ..adapters.fingerprint import exact_digest
from ..adapters.module import SuperLoRA
from ..adapters.reading import CONFIG, WEIGHTS, read_adapter_config
from ..adapters.remote import download_adapter
from ..adapters.storage import load_adapter
from ..errors import BaseModelError, ConfigError, HubError, RunError
from ..hub.download import is_hub_id
from ..models.base import Base
from ..models.classifier import Classifier
from ..models.classifier_storage import load_classifier, load_head
from ..models.config import BaseSettings
from ..models.storage import load_base
from ..peers import Peer, load_peer
from ..peers.storage import is_peer
from .config import RunConfig, Task
from .folder import RunFolder
from .published import RUN_CONFIG, read_published

Load = Callable[[BaseSettings], Base | Classifier]


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
    base: Base | Classifier
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
    described: Mapping[str, Any] = field(default_factory=dict)
    """Its adapter_config.json."""


def open_source(path: str, base: str | None = None) -> Source:
    """Open a run folder, an adapter folder, an adapter on the hub, or a base, all of task denoising.

    Args:
        path: a finished run folder, a folder holding adapter_config.json, a hub id whose repository has that file, or
            what a base is named by. What is on this machine wins over the hub.
        base: the base to use instead of the one that the run or the adapter names.

    Raises:
        RunError: for an unfinished run, one of task classification, or an adapter that does not say its base.
        BaseModelError, AdapterError: if a part cannot be loaded.
        HubError: if the hub does not give what is no folder here.
    """
    return _open(path, base, "denoising", load_base)


def open_classifier(path: str, base: str | None = None) -> Source:
    """The same, all of task classification; the base is a :class:`Classifier`, with the head that was trained.

    Raises:
        RunError, BaseModelError, AdapterError, HubError: as :func:`open_source`.
    """
    return _open(path, base, "classification", load_classifier)


def open_of_either_task(path: str, base: str | None = None) -> Source:
    """The same, of the task that the adapter was trained for; a base alone is opened as one of task denoising.

    Raises:
        RunError, BaseModelError, AdapterError, HubError: as :func:`open_source`.
    """
    return _open(path, base, None, load_base)


def _open(path: str, base: str | None, task: Task | None, load: Load) -> Source:
    """``load`` is for a base alone; an adapter's file says which kind its base is."""
    found = find_stored(path, task)
    if found is None:
        return _base_alone(path, base, load)
    told = found.described.get("classification")
    if not told:
        return attach_found(found, load_base_of(found, base))
    classifier = load_base_of(found, base, load_classifier)
    if told["head_parameters"]:
        load_head(classifier, found.folder, told["class_names"])
    return attach_found(found, classifier)


def _base_alone(path: str, base: str | None, load: Load) -> Source:
    """A run of method full, or a base."""
    if base is not None:
        raise ConfigError(f"--base {base} goes with an adapter, and {path} holds none; leave it out.")
    folder = Path(path).expanduser()
    if (folder / "config.yaml").is_file():
        run = RunFolder(folder)
        config = run.read_config()
        settings = BaseSettings(path=str(run.base), variant=config.base.variant)
        return Source(folder.resolve().name, load(settings), None, config)
    return Source(folder.name or path, load(BaseSettings(path=path)))


def find_stored(path: str, task: Task | None = "denoising") -> Found | None:
    """The adapter that a run folder, an adapter folder or a hub id holds; None for a base and for a run of method full.

    Args:
        path: of a folder, or a hub id.
        task: what it must be of; None takes either.

    Raises:
        RunError: for an unfinished run, or one of another task.
        AdapterError: for an adapter's config that is broken or another library's.
        HubError: if the hub does not give what is no folder here.
    """
    published = download_published(path)
    if published is not None:
        return _found(Path(path).resolve().name, path, published, task, read_published(published))
    folder = Path(path).expanduser()
    name = folder.resolve().name
    if (folder / "config.yaml").is_file():
        run = RunFolder(folder)
        config = run.read_config()
        _require_task(path, config.task, task)
        if not run.is_finished(config):
            raise RunError(
                f"{folder} is not finished. Go on with: "
                f"superlora-diff train --config {run.config} output={folder}"
            )
        return None if config.method == "full" else _found(name, path, run.adapter, task, config, config.base)
    if (folder / CONFIG).is_file():
        return _found(name, str(folder), folder, task)
    return None


def _found(
    name: str,
    told: str,
    folder: Path,
    task: Task | None,
    config: RunConfig | None = None,
    base: BaseSettings | None = None,
) -> Found:
    """``base`` is what its run says; otherwise the adapter itself does."""
    described = read_adapter_config(folder)
    _require_task(told, "classification" if described.get("classification") else "denoising", task)
    return Found(name, told, folder, base or _named_base(described), config, described)


def _require_task(told: str, task: Task, wanted: Task | None) -> None:
    if wanted is None:
        return
    if task != wanted == "denoising":
        raise RunError(
            f"{told} is of task classification: it draws no images, and this verb is for what does. Score it by: "
            f"superlora-diff eval-acc {told}"
        )
    if task != wanted:
        raise RunError(
            f"{told} is of task denoising: it draws images, and classifies none. Score it by: superlora-diff eval-is "
            f"{told}"
        )


def _named_base(described: Mapping[str, Any]) -> BaseSettings | None:
    stored = described.get("base") if isinstance(described.get("base"), dict) else {}
    if stored.get("id") is None:
        return None
    return BaseSettings(path=stored["id"], **(stored.get("settings") or {}))


def load_base_of(found: Found, base: str | None, load: Load = load_base) -> Base | Classifier:
    """The base of an adapter, or the one that is named instead.

    Raises:
        RunError: for an adapter that does not say its base.
        BaseModelError: if it cannot be loaded.
    """
    settings = found.base if base is None else BaseSettings(path=base)
    if settings is None:
        raise RunError(f"{found.told} does not say which base it was trained on; give it with --base.")
    try:
        return load(settings)
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


def attach_found(found: Found, base: Base | Classifier) -> Source:
    """Put an adapter on its base."""
    weights, folder = digest_of(found), found.folder
    if is_peer(found.described):
        digest = base_digest(base)
        return Source(
            found.name, base, load_peer(base.adapted, folder), found.config, weights, digest, folder
        )
    adapter = load_adapter(base.adapted, folder)
    return Source(found.name, base, adapter, found.config, weights, folder=folder)


def digest_of(found: Found) -> str:
    """The first 12 hex digits of sha256 over an adapter's file; empty where it is missing, which loading tells."""
    file = found.folder / WEIGHTS
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else ""


def base_digest(base: Base | Classifier) -> str:
    """The first 12 hex digits of sha256 over a base's weights; not while an adapter is merged."""
    return exact_digest(base.network.state_dict())
