"""The method: the joint update of all target weights of a network, generated from a handful of numbers.

Names load on first use: the settings (``adapters.config``) are read by the command line, which loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "AdapterBank": "bank",
    "AdapterCard": "storage",
    "SuperLoRA": "module",
    "SuperLoRAConfig": "config",
    "Target": "naming",
    "attach": "attaching",
    "count_parameters": "plan",
    "deltas_of_folder": "deltas",
    "find_targets": "targets",
    "load_adapter": "storage",
}

__all__ = [
    "AdapterBank",
    "AdapterCard",
    "SuperLoRA",
    "SuperLoRAConfig",
    "Target",
    "attach",
    "count_parameters",
    "deltas_of_folder",
    "find_targets",
    "load_adapter",
]

if TYPE_CHECKING:
    from .attaching import attach
    from .bank import AdapterBank
    from .config import SuperLoRAConfig
    from .deltas import deltas_of_folder
    from .module import SuperLoRA
    from .naming import Target
    from .plan import count_parameters
    from .storage import AdapterCard, load_adapter
    from .targets import find_targets


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
