"""DiffFit (Xie et al. 2023, arXiv 2304.06648) on transformers and U-Nets.

The paper trains, in a DiT: all biases, the normalisation layers, the class embedding, and new factors gamma, one a
channel and started at 1, on what each block adds to its input (the attention, the MLP). Networks of diffusers add to
their input in attention layers, in MLPs, and U-Nets in ResNet blocks; so gamma scales the output of each
``Attention``'s and ``FeedForward``'s last projection and of each ``ResnetBlock2D``'s second convolution, with its bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..errors import AdapterError
from .peer import Attached
from .selections import is_bias, norm_parameters

_OFF = "difffit_off"
_CLASS_EMBEDDINGS = ("class_embedding.", "embedding_table.")  # a U-Net's, and the end of the DiT's


def attach_difffit(network: nn.Module) -> Attached:
    """Add the factors and choose what trains.

    Raises:
        AdapterError: for a network without attention layers and ResNet blocks of diffusers.
    """
    ends = dict(_ends_of_branches(network))
    if not ends:
        raise AdapterError(
            f"{type(network).__name__} has neither Attention layers nor ResnetBlock2D of diffusers, whose outputs "
            "DiffFit scales."
        )
    wanted = {name for name, _ in norm_parameters(network)}
    own = [name for name, _ in network.named_parameters()]
    wanted |= {name for name in own if is_bias(name) or _embeds_classes(name)}
    for layer in ends.values():
        layer.register_parameter("gamma", nn.Parameter(layer.weight.new_ones(len(layer.weight))))
        layer.register_forward_hook(_scale)
    wanted |= {f"{name}.gamma" for name in ends}
    chosen = {name: parameter for name, parameter in network.named_parameters() if name in wanted}
    embedded = ", the class embedding" if any(map(_embeds_classes, chosen)) else ""
    what = f"DiffFit: biases, normalisation layers{embedded} and the scales of {len(ends)} blocks"
    return Attached(chosen, what, switch=lambda on: _switch(ends, on))


def _ends_of_branches(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, layer) of the last layer of each branch that is added to its input."""
    for name, module in network.named_modules():
        kind = type(module).__name__
        if kind == "ResnetBlock2D":
            yield f"{name}.conv2", module.conv2
        elif kind == "Attention":
            yield from _ends_of_attention(name, module)
        elif kind == "FeedForward":
            yield f"{name}.net.2", module.net[2]


def _ends_of_attention(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The projection of the images' tokens, and in a joint attention that of the text's."""
    if module.to_out is not None:
        yield f"{name}.to_out.0", module.to_out[0]
    if getattr(module, "to_add_out", None) is not None:
        yield f"{name}.to_add_out", module.to_add_out


def _embeds_classes(name: str) -> bool:
    return any(f".{part}" in f".{name}" for part in _CLASS_EMBEDDINGS)


def _scale(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Hook: gamma times a Linear's last, or a convolution's second, dimension."""
    if getattr(layer, _OFF, False):
        return output
    gamma = layer.gamma.to(output.dtype)
    return output * (gamma if isinstance(layer, nn.Linear) else gamma.view(1, -1, 1, 1))


def _switch(ends: dict[str, nn.Module], on: bool) -> None:
    for layer in ends.values():
        setattr(layer, _OFF, not on)
