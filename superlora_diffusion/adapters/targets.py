"""Which weights of a network are adapted: (name, out_features, in_features) triples, in module order."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ..errors import AdapterError, nearest
from .config import SuperLoRAConfig
from .naming import Target, matches

ADAPTABLE = (nn.Linear, nn.Conv2d)


def find_targets(model: nn.Module, config: SuperLoRAConfig) -> list[Target]:
    """The Linear and Conv2d layers whose names end in one of ``config.targets``, in module order.

    Raises:
        AdapterError: naming near misses, if a pattern matches no such layer.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, ADAPTABLE)}
    for pattern in config.targets:
        if not any(matches(name, pattern) for name in layers):
            raise AdapterError(_nothing_matched(pattern, model, layers))
    chosen = [name for name in layers if any(matches(name, pattern) for pattern in config.targets)]
    return [describe(name, layers[name]) for name in chosen]


def describe(name: str, layer: nn.Module) -> Target:
    """The triple of a Linear or Conv2d layer."""
    out_features = layer.weight.shape[0]
    return Target(name, out_features, layer.weight.numel() // out_features)


def _nothing_matched(pattern: str, model: nn.Module, layers: dict[str, nn.Module]) -> str:
    others = [(name, module) for name, module in model.named_modules() if name and matches(name, pattern)]
    if others:
        name, module = others[0]
        inside = [inner for inner in layers if inner.startswith(f"{name}.")]
        hint = (
            f" Inside it: {', '.join(pattern + inner[len(name) :] for inner in inside[:3])}."
            if inside
            else ""
        )
        return (
            f"target {pattern!r} matches {name!r}, which is a {type(module).__name__}; "
            f"Linear and Conv2d layers can be adapted.{hint}"
        )
    endings = _endings(layers)
    return (
        f"target {pattern!r} matches no Linear or Conv2d layer of {type(model).__name__}."
        f"{nearest(pattern, endings)} Its layers end in: {', '.join(endings[:20]) or 'nothing (it has none)'}."
    )


def _endings(names: Iterable[str]) -> list[str]:
    """Distinct last components, a number together with the one before it."""
    endings: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        endings.setdefault(".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1])
    return list(endings)
