"""Other methods in the same plot: the tuners of PEFT and LyCORIS, and biases, norms and DiffFit on the base's own.

Names load on first use: the settings (``peers.config``) are read by the command line, which loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Peer": "peer",
    "attach_peer": "attaching",
    "check_peer": "attaching",
    "load_peer": "storage",
}

__all__ = ["Peer", "attach_peer", "check_peer", "load_peer"]

if TYPE_CHECKING:
    from .attaching import attach_peer, check_peer
    from .peer import Peer
    from .storage import load_peer


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
