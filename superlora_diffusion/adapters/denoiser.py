"""What is adapted of what was given: a network, or a pipeline's denoiser."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import AdapterError

_NAMES = ("unet", "transformer")  # what pipelines of diffusers call the network that adapters go to


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
