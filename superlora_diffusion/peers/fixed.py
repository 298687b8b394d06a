"""What a library attaches beside the numbers that train: random projections, masks, indices."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from torch import Tensor, nn

from ..errors import AdapterError

_TORCH_OWN = frozenset(nn.Module().__dict__)


def fixed_tensors(network: nn.Module, known: Collection[int]) -> dict[str, Tensor]:
    """Buffers, frozen parameters and plain tensors of a network that are not among ``known`` (by id), by name.

    Libraries keep such state in buffers, in parameters without a gradient, and (FourierFT's frequencies, for one)
    in plain dicts that no state dict knows. Each is found once, under the name of its first place.
    """
    found: dict[str, Tensor] = {}
    seen = set(known)
    for name, tensor in _walk(network):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.data
    return found


def _walk(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_buffers()
    yield from network.named_parameters()
    for name, module in network.named_modules():
        for attribute, value in module.__dict__.items():
            if attribute not in _TORCH_OWN:
                yield from _inside(f"{name}#{attribute}", value)


def _inside(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _inside(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _inside(f"{name}.{index}", inner)


def put_fixed(fixed: dict[str, Tensor], stored: dict[str, Tensor], place: str) -> None:
    """Copy stored state into a freshly attached one.

    Raises:
        AdapterError: naming ``place``, if names or shapes differ.
    """
    here = {name: tuple(tensor.shape) for name, tensor in fixed.items()}
    there = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if here != there:
        wrong = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        first = wrong[0]
        raise AdapterError(
            f"{place} does not fit: {first} is {there.get(first, 'missing')}, expected "
            f"{here.get(first, 'nothing')} ({len(wrong)} of {len(here)} tensors differ)."
        )
    for name, tensor in fixed.items():
        tensor.copy_(stored[name])
