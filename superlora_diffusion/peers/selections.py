"""Methods that train a part of the network's own parameters: biases (BitFit), normalisation layers."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..errors import AdapterError
from .peer import Attached


def select_biases(network: nn.Module) -> Attached:
    """Every bias term of the network (BitFit: Ben Zaken et al. 2021, arXiv 2106.10199), those of norms included."""
    chosen = {name: parameter for name, parameter in network.named_parameters() if is_bias(name)}
    return _attached(network, chosen, f"all {len(chosen)} bias terms")


def select_norms(network: nn.Module) -> Attached:
    """Weights and biases of the normalisation layers."""
    chosen = dict(norm_parameters(network))
    layers = len({name.rpartition(".")[0] for name in chosen})
    return _attached(network, chosen, f"weights and biases of all {layers} normalisation layers")


def is_bias(name: str) -> bool:
    """Whether a parameter's name is a bias's."""
    leaf = name.rpartition(".")[2]
    return leaf == "bias" or leaf.endswith("_bias")  # in_proj_bias of nn.MultiheadAttention


def norm_parameters(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(name, parameter) of all normalisation layers."""
    for place, module in network.named_modules():
        # torch's and diffusers' own are all named so: GroupNorm, LayerNorm, BatchNorm2d, RMSNorm, ...
        if "Norm" in type(module).__name__:
            for leaf, parameter in module.named_parameters(recurse=False):
                yield (f"{place}.{leaf}" if place else leaf), parameter


def _attached(network: nn.Module, chosen: dict[str, nn.Parameter], what: str) -> Attached:
    if not chosen:
        raise AdapterError(f"{type(network).__name__} has nothing of the kind to train: {what}.")
    return Attached(chosen, what)
