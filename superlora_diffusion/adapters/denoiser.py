"""What is adapted of what was given: a network, or a pipeline's denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import AdapterError

_NAMES = ("unet", "transformer")  # what pipelines of diffusers call the network that adapters go to
_JOINED = "superlora_joined"


def denoiser_of(model: Any) -> nn.Module:
    """The network itself, or a diffusers pipeline's ``unet`` or ``transformer``.

    Raises:
        AdapterError: for anything else.
    """
    if isinstance(model, nn.Module):
        return model
    for name in _NAMES:
        network = getattr(model, name, None)
        if isinstance(network, nn.Module):
            return network
    raise AdapterError(
        f"a {type(model).__name__} cannot be adapted: expected a network (torch.nn.Module), or a pipeline of "
        f"diffusers that has one as {' or '.join(_NAMES)}."
    )


def network_for(model: Any, targets: Sequence[str]) -> nn.Module:
    """What an adapter with these targets is attached to: a network, or of a pipeline the parts that they name.

    Targets of an adapter that reaches into text encoders begin with the pipeline's name of their network. These
    networks become children of one module, which lives as long as the pipeline.

    Raises:
        AdapterError: as :func:`denoiser_of`.
    """
    named = dict.fromkeys(target.split(".", 1)[0] for target in targets)
    parts = {name: getattr(model, name, None) for name in named}
    if isinstance(model, nn.Module) or not all(isinstance(part, nn.Module) for part in parts.values()):
        return denoiser_of(model)
    joined = model.__dict__.setdefault(_JOINED, {})
    key = tuple(parts)
    if key not in joined:
        joined[key] = nn.ModuleDict(parts)
    return joined[key]
