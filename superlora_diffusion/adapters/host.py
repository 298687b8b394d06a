"""What all adapters of one network share: who is attached, how the base was before, what is merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .places import full_name, parameter_of

if TYPE_CHECKING:
    from .module import SuperLoRA

_ATTRIBUTE = "superlora_host"
_CHILD = "superlora_adapter_{}"


class Host:
    """Book-keeping of one network with adapters. It lives on the network while any adapter does."""

    def __init__(self, model: nn.Module) -> None:
        self.adapters: dict[str, SuperLoRA] = {}
        self.required_grad = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        self.originals: dict[str, Tensor] = {}
        """Targets of merged adapters as they were before, by the full names of the parameters."""

    def all_off(self) -> bool:
        """Whether every adapter is in a ``disabled()`` block."""
        return all(adapter.is_off for adapter in self.adapters.values())

    def merged(self) -> list[SuperLoRA]:
        return [adapter for adapter in self.adapters.values() if adapter.is_merged]


def host_of(model: nn.Module) -> Host | None:
    """The network's host, or None where nothing is attached."""
    return model.__dict__.get(_ATTRIBUTE)


def register(model: nn.Module, adapter: SuperLoRA) -> None:
    """Make the adapter a child of the network (so ``parameters()`` and ``to()`` reach it) and freeze the base."""
    host = host_of(model)
    if host is None:
        host = Host(model)
        object.__setattr__(model, _ATTRIBUTE, host)
        model.requires_grad_(False)
    host.adapters[adapter.name] = adapter
    model.add_module(_CHILD.format(adapter.name), adapter)


def unregister(model: nn.Module, adapter: SuperLoRA) -> None:
    """Take the adapter from the network; with the last one the base's ``requires_grad`` flags return."""
    host = host_of(model)
    del host.adapters[adapter.name]
    delattr(model, _CHILD.format(adapter.name))
    if not host.adapters:
        set_base_flags(model, host, frozen=False)
        delattr(model, _ATTRIBUTE)


def set_base_flags(model: nn.Module, host: Host, frozen: bool) -> None:
    """Freeze the base's own parameters, or give them back the flags they had.

    Also an unused flag matters: torch picks other convolution kernels for weights that require a gradient, so that
    only with its own flags is a base's output the same to the last bit.
    """
    parameters = dict(model.named_parameters())
    for name, flag in host.required_grad.items():
        parameters[name].requires_grad_(flag and not frozen)


def base_weight(model: nn.Module, name: str) -> Tensor:
    """What a target is in the base itself, also while an update is merged into it."""
    host = host_of(model)
    merged = None if host is None else host.originals.get(full_name(name))
    return parameter_of(model, name).detach() if merged is None else merged


def check_name(model: nn.Module, name: str) -> None:
    """Raise AdapterError for a name that cannot be used or is taken."""
    if not name.isidentifier():
        raise AdapterError(f"adapter name {name!r} is no identifier; use letters, digits and underscores.")
    host = host_of(model)
    if host is not None and name in host.adapters:
        raise AdapterError(
            f"an adapter named {name!r} is attached already; give another name=, or unload it first."
        )


@torch.no_grad()
def rewrite_weights(model: nn.Module) -> None:
    """Set every touched weight to the original plus the updates of all merged adapters, in order.

    Weights that no merged adapter touches any more return to their originals bit for bit.
    """
    host = host_of(model)
    merged = host.merged()
    for adapter in merged:
        for target in adapter.targets:
            weight = parameter_of(model, target.name)
            host.originals.setdefault(full_name(target.name), weight.detach().clone())
    updates: dict[str, list[Tensor]] = {}
    for adapter in merged:
        for name, delta in adapter.deltas().items():
            updates.setdefault(full_name(name), []).append(delta)
    for name, original in list(host.originals.items()):
        weight = model.get_parameter(name)
        value = original.to(weight.device, weight.dtype)
        for delta in updates.get(name, ()):
            value = value + delta.to(value.dtype)
        weight.copy_(value)  # not by .data: kept sums of weight and update see the new version
        if name not in updates:
            del host.originals[name]


def keep_merged_weights(model: nn.Module, adapter: SuperLoRA) -> None:
    """Let the merged weights of an adapter's targets be the base's from now on."""
    host = host_of(model)
    for name, delta in adapter.deltas().items():
        original = host.originals[full_name(name)]
        host.originals[full_name(name)] = original + delta.detach().to(original.dtype)
    for other in host.adapters.values():
        other.has_own_arrays = True  # what it has may follow from the base as it was
