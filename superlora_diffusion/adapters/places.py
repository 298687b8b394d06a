"""Where a target lies: which layer of the network, and which parameter of it. Imports no torch.

A target is called like its layer where it is the weight of a Linear, a Conv2d or an Embedding: a matrix. Anything else
is a vector and says which parameter it is: ``conv_norm_out:weight``, ``conv_out:bias``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

COLON = ":"
WEIGHT, BIAS = "weight", "bias"


def split_name(name: str) -> tuple[str, str]:
    """(layer, parameter) of a target: ("conv_out", "weight") of ``conv_out``, else what is behind the colon."""
    layer, _, parameter = name.rpartition(COLON)
    return (layer, parameter) if is_vector(name) else (name, WEIGHT)


def is_vector(name: str) -> bool:
    """Whether a target's name says that it is a vector: a bias, or a weight of a normalisation."""
    return name.endswith((COLON + WEIGHT, COLON + BIAS))


def full_name(name: str) -> str:
    """What the network calls the parameter: ``conv_out.bias`` of the target ``conv_out:bias``."""
    layer, parameter = split_name(name)
    return f"{layer}.{parameter}" if layer else parameter


def target_named(parameter: str, dims: int) -> str:
    """What a target is called whose parameter, of so many dimensions, has this full name; undoes :func:`full_name`.

    A name that is no layer's weight or bias comes back as it is.
    """
    layer, _, own = parameter.rpartition(".")
    if not layer or own not in (WEIGHT, BIAS):
        return parameter
    return layer if own == WEIGHT and dims > 1 else f"{layer}{COLON}{own}"


def sizes_of(name: str, shape: Sequence[int]) -> tuple[int, int]:
    """(out_features, in_features) of a target whose parameter has this shape; (1, n) of a vector."""
    return (1, math.prod(shape)) if is_vector(name) else (shape[0], math.prod(shape[1:]))


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """The layer of a network that a target lies in.

    Raises:
        AttributeError: if the network has no such layer.
    """
    return model.get_submodule(split_name(name)[0])


def parameter_in(layer: nn.Module, name: str) -> nn.Parameter:
    """The parameter of its layer that a target names."""
    return getattr(layer, split_name(name)[1])


def parameter_of(model: nn.Module, name: str) -> nn.Parameter:
    """The parameter of a network that a target names.

    Raises:
        AttributeError: if the network has no such layer.
    """
    return parameter_in(layer_of(model, name), name)
