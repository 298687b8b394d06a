"""Linear and Conv2d layers that add updates to their weight. Attaching swaps a layer's class, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import AdapterError

if TYPE_CHECKING:
    from .module import SuperLoRA


def adapted_weight(layer: nn.Module, tokens: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The layer's weight with updates added, and the updates (L, R) that are applied as small products instead.

    Updates are generated in fp32 and take the weight's type at the addition.

    Args:
        layer: an adapted layer.
        tokens: how many rows go through it: what products cost depends on.
    """
    active = [source for source in layer.superlora_sources if source[0].is_active]
    as_products = [source for source in active if source[0].uses_products(source[1], tokens)]
    as_weights = [source for source in active if source not in as_products]
    weight = layer.weight
    pairs = [adapter.factors_for_layer(index) for adapter, index in as_products]
    if len(as_weights) == 1:
        adapter, index = as_weights[0]
        return adapter.weight_for_layer(index, weight), pairs
    for adapter, index in as_weights:
        weight = weight + adapter.delta_for_layer(index).to(weight.dtype)
    return weight, pairs


class AdaptedLinear(nn.Linear):
    """A Linear layer with adapters; its parameters and their names stay the base's."""

    superlora_sources: list[tuple[SuperLoRA, int]]

    def forward(self, input: Tensor) -> Tensor:
        weight, pairs = adapted_weight(self, input.numel() // self.in_features)
        output = F.linear(input, weight, self.bias)
        for left, right in pairs:
            output = _add_products(output, input, left.to(weight.dtype), right.to(weight.dtype))
        return output


def _add_products(output: Tensor, input: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """output + (input R) L^T, the addition as a part of the second product."""
    narrow = F.linear(input, right.t())
    rows = torch.addmm(output.reshape(-1, output.shape[-1]), narrow.reshape(-1, narrow.shape[-1]), left.t())
    return rows.view(output.shape)


class AdaptedConv2d(nn.Conv2d):
    """A Conv2d layer with adapters; its parameters and their names stay the base's."""

    superlora_sources: list[tuple[SuperLoRA, int]]

    def forward(self, input: Tensor) -> Tensor:
        weight, _ = adapted_weight(self, 0)  # convolutions are always given their weight
        return self._conv_forward(input, weight, self.bias)


# Classes with a forward of their own would silently lose it, so only the plain ones are swapped.
_ADAPTED = {nn.Linear: AdaptedLinear, nn.Conv2d: AdaptedConv2d}
_PLAIN = {adapted: plain for plain, adapted in _ADAPTED.items()}


def is_adaptable(layer: nn.Module) -> bool:
    """Whether it is a plain (or already adapted) Linear or Conv2d."""
    return type(layer) in _ADAPTED or type(layer) in _PLAIN


def check_adaptable(name: str, layer: nn.Module) -> None:
    """Raise AdapterError unless the layer is a plain (or already adapted) Linear or Conv2d."""
    if not is_adaptable(layer):
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
