"""Linear and Conv2d layers that add updates to their weight. Attaching swaps a layer's class, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import AdapterError

if TYPE_CHECKING:
    from .module import SuperLoRA


def adapted_weight(layer: nn.Module) -> Tensor:
    """The layer's weight plus the update of each attached adapter, cast to the weight's type at the addition."""
    weight = layer.weight
    for adapter, index in layer.superlora_sources:
        delta = adapter.delta_for_layer(index)
        if delta is not None:
            weight = weight + delta.to(weight.dtype)
    return weight


class AdaptedLinear(nn.Linear):
    """A Linear layer with adapters; its parameters and their names stay the base's."""

    superlora_sources: list[tuple[SuperLoRA, int]]

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, adapted_weight(self), self.bias)


class AdaptedConv2d(nn.Conv2d):
    """A Conv2d layer with adapters; its parameters and their names stay the base's."""

    superlora_sources: list[tuple[SuperLoRA, int]]

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, adapted_weight(self), self.bias)


# Classes with a forward of their own would silently lose it, so only the plain ones are swapped.
_ADAPTED = {nn.Linear: AdaptedLinear, nn.Conv2d: AdaptedConv2d}
_PLAIN = {adapted: plain for plain, adapted in _ADAPTED.items()}


def check_adaptable(name: str, layer: nn.Module) -> None:
    """Raise AdapterError unless the layer is a plain (or already adapted) Linear or Conv2d."""
    if type(layer) not in _ADAPTED and type(layer) not in _PLAIN:
        raise AdapterError(
            f"target {name!r} is a {type(layer).__module__}.{type(layer).__qualname__}; only plain torch.nn.Linear "
            "and torch.nn.Conv2d layers are adapted, because a class of its own may compute something else."
        )


def add_source(layer: nn.Module, adapter: SuperLoRA, index: int) -> None:
    """Let the adapter's update number ``index`` be added to the layer's weight."""
    if type(layer) in _ADAPTED:
        layer.__class__ = _ADAPTED[type(layer)]
        layer.superlora_sources = []
    layer.superlora_sources.append((adapter, index))


def remove_source(layer: nn.Module, adapter: SuperLoRA) -> None:
    """Take the adapter from the layer; with the last one the layer's own class returns."""
    layer.superlora_sources = [source for source in layer.superlora_sources if source[0] is not adapter]
    if not layer.superlora_sources:
        del layer.superlora_sources
        layer.__class__ = _PLAIN[type(layer)]
