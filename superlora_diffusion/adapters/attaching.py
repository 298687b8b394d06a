"""Attaching an adapter to a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from .config import SuperLoRAConfig
from .denoiser import denoiser_of
from .host import check_name, register
from .layers import add_source, check_adaptable
from .module import SuperLoRA
from .naming import Target
from .places import layer_of, split_name
from .projection import Arrays
from .targets import find_targets


def attach(model: nn.Module | Any, config: SuperLoRAConfig, name: str = "default") -> SuperLoRA:
    """Attach a fresh adapter; the network computes what it did before, since every update starts at zero.

    Args:
        model: any network with layers that can be adapted, or a diffusers pipeline, whose ``unet`` or
            ``transformer`` is taken. The network's own parameters are frozen until the adapter is unloaded.
        config: settings.
        name: a name among the adapters of this network.

    Returns:
        the adapter, an ``nn.Module`` whose parameters are all that trains.

    Raises:
        AdapterError: for a target pattern that matches nothing, a layer that cannot be adapted, a name taken.
        ConfigError: for settings that do not fit the targets.
    """
    network = denoiser_of(model)
    return attach_to_targets(network, config, find_targets(network, config), name)


def attach_to_targets(
    model: nn.Module,
    config: SuperLoRAConfig,
    targets: Sequence[Target],
    name: str,
    arrays: Sequence[Arrays] | None = None,
) -> SuperLoRA:
    """Attach to given targets, in their order, with given fixed arrays (None: drawn from the seed)."""
    check_name(model, name)
    check_layers(model, targets)
    adapter = SuperLoRA(model, config, targets, name, arrays)
    connect(model, adapter)
    return adapter


def check_layers(model: nn.Module, targets: Sequence[Target]) -> None:
    """Raise AdapterError unless every target is a layer that can be adapted."""
    for target in targets:
        check_adaptable(target.name, layer_of(model, target.name))


def connect(model: nn.Module, adapter: SuperLoRA) -> None:
    """Let an adapter that was made for the network take part in its forwards; ``adapter.unload`` undoes it."""
    for index in range(len(adapter.targets)):
        add_source(adapter.layer_of(index), split_name(adapter.targets[index].name)[1], adapter, index)
    register(model, adapter)
    model.register_forward_pre_hook(adapter.before_forward, with_kwargs=True)
    model.register_forward_hook(adapter.after_forward, always_call=True)
