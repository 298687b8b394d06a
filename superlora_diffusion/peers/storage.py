"""Peers on disk: exactly the trained numbers, frozen random state in a file of its own, the config last."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import __version__
from ..adapters.fingerprint import fingerprints_agree
from ..adapters.reading import CONFIG, FIXED, FORMAT_VERSION, WEIGHTS, read_adapter_config
from ..adapters.storage import AdapterCard
from ..errors import AdapterError, ConfigError
from ..files import write_atomically, write_json
from ..settings import Settings
from .attaching import attach_peer
from .config import LycorisSettings, PeftSettings
from .fixed import put_fixed
from .peer import Peer

KIND = "peer"
_SETTINGS: dict[str, type[Settings]] = {"peft": PeftSettings, "lycoris": LycorisSettings}


def save_peer(peer: Peer, folder: Path | str, card: AdapterCard | None = None) -> None:
    """Write a peer's folder, each file whole or not at all, the config last."""
    folder, fixed = Path(folder), peer.fixed()
    _write(folder / WEIGHTS, peer.parameters)
    if fixed:
        _write(folder / FIXED, fixed)
    else:
        (folder / FIXED).unlink(missing_ok=True)
    write_json(folder / CONFIG, _describe(peer, card or AdapterCard(), bool(fixed)))


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    # clone: a file of safetensors holds no two names of the same memory.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, lambda partial: save_file(plain, partial))


def _describe(peer: Peer, card: AdapterCard, fixed: bool) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        "kind": KIND,
        "method": peer.method,
        "parameters": peer.num_parameters,
        "trains": peer.what,
        "settings": peer.settings,
        "seed": peer.seed,
        "layers": list(peer.attached.layers),
        "left_out": peer.left_out,
        "notes": list(peer.attached.notes),
        "fixed_stored": fixed,
        "libraries": {"torch": torch.__version__, **peer.attached.versions},
        "base": {
            "id": card.base,
            "settings": dict(card.base_settings),
            "fingerprint": peer.before.fingerprint,
        },
        **card.told(),
    }


def is_peer(described: dict[str, Any]) -> bool:
    """Whether what an ``adapter_config.json`` says is a peer's."""
    return described.get("kind") == KIND


def load_peer(network: nn.Module, folder: Path | str) -> Peer:
    """Attach a stored peer: as it was configured, then its numbers by name.

    Raises:
        AdapterError: for a missing or broken file, a library that refuses, or numbers that do not fit.
        ConfigError: for a library that is not installed.

    Warns:
        UserWarning: if the base's weights are not those the peer was trained on.
    """
    folder, described = Path(folder), read_adapter_config(folder)
    try:
        method, seed, stored, base = (described[key] for key in ("method", "seed", "fixed_stored", "base"))
        settings = _SETTINGS[method](**described["settings"]) if method in _SETTINGS else None
    except (KeyError, TypeError, ConfigError) as error:
        raise AdapterError(f"{folder / CONFIG} is broken: {type(error).__name__}: {error}") from error
    numbers = _read(folder / WEIGHTS)
    fixed = _read(folder / FIXED) if stored else {}
    peer = attach_peer(network, method, settings, seed)
    with torch.no_grad():
        put_fixed(peer.fixed(), fixed, str(folder / FIXED))
        put_fixed(peer.parameters, numbers, str(folder / WEIGHTS))
    if not fingerprints_agree(base["fingerprint"], peer.before.fingerprint):
        warnings.warn(
            f"{folder} was trained on another base ({base['id']}): its weights differ from this network's. "
            "What was trained is put into it all the same.",
            stacklevel=2,
        )
    return peer


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} cannot be read: {error}") from error
