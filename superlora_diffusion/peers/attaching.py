"""Attaching a peer: freeze the base, let the method do its part, take note of what trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..adapters.targets import select_layers
from ..errors import AdapterError
from ..settings import Settings
from .difffit import attach_difffit
from .peer import Attached, Peer, Snapshot
from .selections import select_biases, select_norms

_OF_THE_BASE: dict[str, Callable[[nn.Module], Attached]] = {
    "bitfit": select_biases,
    "norms": select_norms,
    "difffit": attach_difffit,
}
"""Methods that train parameters of the base itself."""


def attach_peer(network: nn.Module, method: str, settings: Settings | None, seed: int) -> Peer:
    """Attach a method to a network, whose own parameters are frozen but for those that the method trains.

    Args:
        network: any network; on the CPU, so that what is drawn does not depend on the device.
        method: peft, lycoris, bitfit, norms or difffit.
        settings: the method's section (PeftSettings, LycorisSettings); None for the others.
        seed: what random starts and frozen random state follow from.

    Raises:
        ConfigError: for a library that is not installed, or options it does not know.
        AdapterError: for targets that match nothing, or a method that refuses the layers.
    """
    if method in _OF_THE_BASE:
        before = Snapshot(network, keep=lambda name: False)
        network.requires_grad_(False)
        attached = _OF_THE_BASE[method](network)
        _train_only(network, attached)
        return Peer(network, method, {}, seed, before, attached)
    library = _library(method)
    prepared = library.prepare(settings, seed)
    wanted = target_layers(network, settings)
    # A tuner may move the weights it adapts (PiSSA), so that these must be known as they were.
    inside = tuple(f"{name}." for name in wanted)
    before = Snapshot(network, keep=lambda name: name.startswith(inside))
    network.requires_grad_(False)
    attached = library.attach(network, settings, prepared, wanted, seed)
    _require_own_weights(network, before, attached)
    if not attached.parameters:
        raise AdapterError(f"{attached.what} trains nothing with these options.")
    return Peer(network, method, settings.model_dump(mode="json"), seed, before, attached)


def _require_own_weights(network: nn.Module, before: Snapshot, attached: Attached) -> None:
    here = {id(parameter) for parameter in network.parameters()}
    lost = [name for name, parameter in before.parameters.items() if id(parameter) not in here]
    if lost:
        raise AdapterError(
            f"{attached.what} replaces weights of the base ({', '.join(lost[:3])}, ...), "
            "so that the base could not be had back; other options of it may not."
        )


def check_peer(method: str, settings: Settings | None) -> None:
    """Check what can be checked without a network.

    Raises:
        ConfigError: for a library that is not installed, or names and values it does not know.
    """
    if method not in _OF_THE_BASE:
        _library(method).prepare(settings, 0)


def _library(method: str) -> Any:
    if method == "peft":
        from . import peft_tuners

        return peft_tuners
    from . import lycoris_modules

    return lycoris_modules


def _train_only(network: nn.Module, attached: Attached) -> None:
    chosen = {id(parameter) for parameter in attached.parameters.values()}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in chosen)


def target_layers(network: nn.Module, settings: Any) -> list[str]:
    """Names of the layers with a weight of their own that ``settings`` choose, in module order.

    Raises:
        AdapterError: naming near misses, if a pattern matches or excludes none; if all are excluded.
    """
    layers = {name: module for name, module in network.named_modules() if _has_weight(module)}
    return list(select_layers(network, layers, settings).names)


def _has_weight(module: nn.Module) -> bool:
    return isinstance(getattr(module, "weight", None), nn.Parameter)
