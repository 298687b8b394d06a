"""The method family of a run: the name its points share in tables and plots. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..adapters.config import SuperLoRAConfig
    from .config import RunConfig


def family_of(config: RunConfig) -> str:
    """The family by structure, whatever variant the config started from.

    A SuperLoRA adapter is named after the published method that it is an instance of (``lora``, ``lotr``, ...), a peer
    after its library and algorithm (``peft-vera``, ``lycoris-loha``), anything else after its method (``full``,
    ``bitfit``, ...).
    """
    if config.method == "superlora":
        return adapter_family(config.adapter)
    if config.method == "peft":
        return f"peft-{config.peft.tuner}".lower()
    if config.method == "lycoris":
        return f"lycoris-{config.lycoris.algo}".lower()
    return config.method


def adapter_family(adapter: SuperLoRAConfig) -> str:
    """The family of an adapter; a projection is told by a suffix, as in ``lorta+fastfood``.

    The exceptions are plain vectors that have names of their own: under ``fastfood`` the intrinsic dimension
    (Li 2018, Aghajanyan 2020), and ``spectral`` under ``singular``.
    """
    if adapter.order == 1 and adapter.projection == "singular":
        return "spectral"
    if adapter.order == 1 and adapter.projection == "fastfood":
        return "intrinsic"
    suffix = "" if adapter.projection == "none" else f"+{adapter.projection}"
    return _structure(adapter) + suffix


def _structure(adapter: SuperLoRAConfig) -> str:
    if adapter.order == 1:
        return "dense"
    if adapter.fold == "stack":  # legal with groups "shape" and order 3 only
        return "lotr"
    if adapter.order > 2:
        return "lorta"
    if adapter.splits > 1:
        return "lokr" if adapter.splits == 2 and adapter.groups == "weight" else "lonkr"
    if adapter.groups == "weight" and adapter.fold == "none":
        return "lora"
    return "group_lora"
