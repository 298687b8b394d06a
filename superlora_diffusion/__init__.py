"""Train, sample and score diffusion models with SuperLoRA adapters.

The public face loads on first use, so that importing the package (or
asking the command line for help) loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AdapterBank": "adapters",
    "SuperLoRA": "adapters",
    "SuperLoRAConfig": "adapters.config",
    "attach": "adapters",
    "count_parameters": "adapters",
    "find_targets": "adapters",
    "load_adapter": "adapters",
}

__all__ = [
    "AdapterBank",
    "SuperLoRA",
    "SuperLoRAConfig",
    "__version__",
    "attach",
    "count_parameters",
    "find_targets",
    "load_adapter",
]

if TYPE_CHECKING:
    from .adapters import (
        AdapterBank,
        SuperLoRA,
        SuperLoRAConfig,
        attach,
        count_parameters,
        find_targets,
        load_adapter,
    )


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
