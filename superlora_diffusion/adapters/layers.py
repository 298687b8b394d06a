"""Layers that add updates to their weight and bias. Attaching swaps a layer's class, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import AdapterError
from .places import BIAS, WEIGHT

if TYPE_CHECKING:
    from .module import SuperLoRA

Sources = list[tuple["SuperLoRA", int]]
"""Adapters that have a parameter among their targets, each with the number of the target."""


def adapted_weight(layer: nn.Module, tokens: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The layer's weight with updates added, and the updates (L, R) that are applied as small products instead.

    Args:
        layer: an adapted layer.
        tokens: how many rows go through it: what products cost depends on.
    """
    active = _active(layer, WEIGHT)
    as_products = [source for source in active if source[0].uses_products(source[1], tokens)]
    as_weights = [source for source in active if source not in as_products]
    pairs = [adapter.factors_for_layer(index) for adapter, index in as_products]
    return _with_updates(layer.weight, as_weights), pairs


def adapted(layer: nn.Module, parameter: str) -> Tensor | None:
    """A layer's parameter with all updates added; None where it has none."""
    return _with_updates(getattr(layer, parameter), _active(layer, parameter))


def _active(layer: nn.Module, parameter: str) -> Sources:
    return [source for source in layer.superlora_sources.get(parameter, ()) if source[0].is_active]


def _with_updates(weight: Tensor | None, sources: Sources) -> Tensor | None:
    """Updates are generated in fp32 and take the weight's type at the addition."""
    if len(sources) == 1:
        adapter, index = sources[0]
        return adapter.weight_for_layer(index, weight)
    for adapter, index in sources:
        weight = weight + adapter.delta_for_layer(index).to(weight.dtype)
    return weight


class AdaptedLinear(nn.Linear):
    """A Linear layer with adapters; its parameters and their names stay the base's."""

    superlora_sources: dict[str, Sources]

    def forward(self, input: Tensor) -> Tensor:
        weight, pairs = adapted_weight(self, input.numel() // self.in_features)
        output = F.linear(input, weight, adapted(self, BIAS))
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

    superlora_sources: dict[str, Sources]

    def forward(self, input: Tensor) -> Tensor:
        # Convolutions are always given their weight.
        return self._conv_forward(input, adapted(self, WEIGHT), adapted(self, BIAS))


class AdaptedGroupNorm(nn.GroupNorm):
    """A GroupNorm with adapters; its parameters and their names stay the base's."""

    superlora_sources: dict[str, Sources]

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, adapted(self, WEIGHT), adapted(self, BIAS), self.eps)


class AdaptedLayerNorm(nn.LayerNorm):
    """A LayerNorm with adapters; its parameters and their names stay the base's."""

    superlora_sources: dict[str, Sources]

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(
            input, self.normalized_shape, adapted(self, WEIGHT), adapted(self, BIAS), self.eps
        )


class AdaptedEmbedding(nn.Embedding):
    """An Embedding with adapters; its parameters and their names stay the base's."""

    superlora_sources: dict[str, Sources]

    def forward(self, input: Tensor) -> Tensor:
        weight, pairs = adapted_weight(self, input.numel())
        output = self._look_up(input, weight)
        for left, right in pairs:
            output = output + self._rows_of_product(input, left.to(weight.dtype), right.to(weight.dtype))
        return output

    def _rows_of_product(self, input: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Rows of L R^T."""
        if self.padding_idx is None and not self.scale_grad_by_freq:
            return F.linear(self._look_up(input, left), right)
        # Both change the gradient of the table as a whole, which R must see, too.
        return self._look_up(input, left @ right.t())

    def _look_up(self, input: Tensor, table: Tensor) -> Tensor:
        # Never sparse: the gradient goes into what generates the update.
        return F.embedding(
            input, table, padding_idx=self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq
        )


# Classes with a forward of their own would silently lose it, so only the plain ones are swapped.
_ADAPTED = {
    nn.Linear: AdaptedLinear,
    nn.Conv2d: AdaptedConv2d,
    nn.GroupNorm: AdaptedGroupNorm,
    nn.LayerNorm: AdaptedLayerNorm,
    nn.Embedding: AdaptedEmbedding,
}
_PLAIN = {adapted: plain for plain, adapted in _ADAPTED.items()}
KINDS = ", ".join(kind.__name__ for kind in _ADAPTED)
"""The kinds of layers that can be adapted, in words."""


def is_adaptable(layer: nn.Module) -> bool:
    """Whether it is a plain (or already adapted) layer of the :data:`KINDS`.

    An Embedding that changes its rows as they are read (``max_norm``) is none.
    """
    known = type(layer) in _ADAPTED or type(layer) in _PLAIN
    return known and getattr(layer, "max_norm", None) is None


def kind_of(layer: nn.Module) -> str:
    """The name of its class, of an adapted layer that of its own."""
    return _PLAIN.get(type(layer), type(layer)).__name__


def check_adaptable(name: str, layer: nn.Module) -> None:
    """Raise AdapterError unless :func:`is_adaptable`."""
    if not is_adaptable(layer):
        raise AdapterError(
            f"target {name!r} is a {type(layer).__module__}.{type(layer).__qualname__}; only layers of torch's own "
            f"classes {KINDS} (without max_norm) are adapted, because a class of its own may compute something else."
        )


def add_source(layer: nn.Module, parameter: str, adapter: SuperLoRA, index: int) -> None:
    """Let the adapter's update number ``index`` be added to a parameter of the layer."""
    if type(layer) in _ADAPTED:
        layer.__class__ = _ADAPTED[type(layer)]
        layer.superlora_sources = {}
    layer.superlora_sources.setdefault(parameter, []).append((adapter, index))


def remove_source(layer: nn.Module, adapter: SuperLoRA) -> None:
    """Take the adapter from the layer; with the last one the layer's own class returns."""
    left = {
        parameter: [source for source in sources if source[0] is not adapter]
        for parameter, sources in layer.superlora_sources.items()
    }
    layer.superlora_sources = {parameter: sources for parameter, sources in left.items() if sources}
    if not layer.superlora_sources:
        del layer.superlora_sources
        layer.__class__ = _PLAIN[type(layer)]
