"""Slots: attached adapters whose numbers are changed in place, so that many stored ones share plan and fixed arrays."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .arrays import checksum_of, follow_from_base
from .attaching import check_layers
from .checksum import checksums_agree
from .config import SuperLoRAConfig
from .host import host_of
from .module import SuperLoRA
from .places import layer_of, split_name
from .projection import Arrays
from .storage import Stored, check_arrays, check_numbers, check_targets, read_arrays

SPARE_SLOTS = 4
"""Idle slots of one kind that are kept for the next mix."""
SPARE_KINDS = 4
"""Idle kinds whose plan and fixed arrays are kept for the next switch."""


class Slots:
    """The slots of one kind: of adapters that differ in nothing but their numbers and their scale.

    One slot holds one set of numbers, so that a mix of three adapters of a kind takes three; plan, units and fixed
    arrays are the first one's. None of them trains.
    """

    def __init__(self, network: nn.Module, stored: Stored, arrays: list[Arrays] | None) -> None:
        """Make the first slot; nothing is attached.

        Args:
            network: which network.
            stored: the config of an adapter of this kind.
            arrays: its fixed arrays where they lie in its folder; by default they are made here.

        Raises:
            AdapterError: for a layer that cannot be adapted.
            ConfigError: for settings that do not fit the targets.
        """
        check_layers(network, stored.targets)
        self.users = 0
        """How many adapters of a bank are of this kind."""
        self.kind = kind_of(stored)
        self._network, self._config, self._targets = network, plain_config(stored.config), stored.targets
        self._given = arrays
        self._slots: list[SuperLoRA] = []
        first = self.slot(0)
        self._shapes = {name: tuple(value.shape) for name, value in first.named_parameters()}
        self._checksum = checksum_of(self._config, first.arrays(), arrays is not None)

    def slot(self, number: int) -> SuperLoRA:
        """Slot ``number``, where the network is now. It is made where it is missing.

        Raises:
            AdapterError: if a layer of the network was replaced since the first slot was made.
        """
        with torch.inference_mode(False):  # what is made in it could not be changed outside
            while len(self._slots) <= number:
                self._slots.append(self._sibling() if self._slots else self._first())
        first, slot = self._slots[0], self._slots[number]
        self._check_layers(first)
        device = first.weight_of(0).device
        for moved in (first, slot):
            if next(moved.parameters()).device != device:
                moved.to(device)
        slot._buffers.update(first._buffers)  # a slot that followed the network by itself has copies
        return slot

    def _first(self) -> SuperLoRA:
        slot = SuperLoRA(self._network, self._config, self._targets, "bank", self._given)
        return slot.requires_grad_(False)

    def _sibling(self) -> SuperLoRA:
        """A slot that shares all but the trained numbers with the first."""
        slot = copy.copy(self._slots[0])
        slot._parameters = {
            name: nn.Parameter(torch.empty_like(value), requires_grad=False)
            for name, value in slot.named_parameters()
        }
        slot._buffers = dict(slot._buffers)
        slot._off, slot.is_merged, slot.generations = 0, False, 0
        return slot

    def _check_layers(self, slot: SuperLoRA) -> None:
        for index, target in enumerate(self._targets):
            if layer_of(self._network, target.name) is not slot.layer_of(index):
                name = split_name(target.name)[0]
                raise AdapterError(
                    f"layer {name!r} of the network was replaced after adapters were added to the bank; make a new "
                    "AdapterBank for the network as it is now."
                )

    def forget_slots(self, kept: int) -> None:
        """Let go of all slots but the first so many. With none, plan and drawn arrays go, too, till they are needed."""
        del self._slots[kept:]

    def has_arrays_of(self, stored: Stored) -> bool:
        """Whether an adapter was trained with the same fixed arrays."""
        return checksums_agree(stored.checksum, self._checksum)

    def pack(self, numbers: Mapping[str, Tensor], file: Path) -> Tensor:
        """An adapter's numbers as one vector (count,), fp32, on the CPU.

        Raises:
            AdapterError: if they are not those of this kind.
        """
        check_numbers(self._shapes, numbers, file)
        return torch.cat([numbers[name].reshape(-1).float() for name in self._shapes])

    def tensors(self) -> Iterator[Tensor]:
        """All tensors that are held, some of them more than once."""
        for slot in self._slots:
            yield from slot.parameters()
            yield from slot.buffers()
        for arrays in self._given or ():
            yield from arrays.values()


def kind_of(stored: Stored) -> tuple:
    """What adapters have in common that may share slots, but for their fixed arrays."""
    return plain_config(stored.config).model_dump_json(), tuple(stored.targets), tuple(stored.shapes)


def plain_config(config: SuperLoRAConfig) -> SuperLoRAConfig:
    """A config without what makes no other update of given numbers; the scale is the slot's run-time scale."""
    values = {**config.model_dump(), "variant": None, "scale": 1.0}
    if config.step == "plain":
        values["init_std"] = None  # else factors on the update follow from it
    if config.projection == "none" or follow_from_base(config.projection):
        values["seed"] = 0  # nothing but the start was drawn from it
    return SuperLoRAConfig(**values)


class SlotPool:
    """The slots of all kinds for one network. Those of kinds that were not used for long are let go of."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._kinds: list[Slots] = []  # the one used last comes last

    def slots_for(self, stored: Stored, folder: Path) -> Slots:
        """The slots for an adapter: those that are there, or fresh ones, which are not kept yet.

        Raises:
            AdapterError, ConfigError: if its targets, shapes or fixed arrays are not the network's or this machine's.
        """
        kind = kind_of(stored)
        for slots in reversed(self._kinds):
            if slots.kind == kind and slots.has_arrays_of(stored):
                return slots
        check_targets(self._network, stored.targets, stored.shapes, folder)
        slots = Slots(self._network, stored, read_arrays(folder) if stored.has_arrays else None)
        check_arrays(stored, slots.slot(0).arrays(), folder)
        return slots

    def keep(self, slots: Slots) -> None:
        """One adapter more needs these slots."""
        slots.users += 1
        if slots.users == 1:
            self._kinds.append(slots)

    def release(self, slots: Slots) -> None:
        """One adapter less needs these slots; with the last one they go."""
        slots.users -= 1
        if not slots.users:
            self._kinds.remove(slots)

    def tidy(self, used: Collection[Slots]) -> None:
        """Let go of slots and kinds that are idle, but for a few of each.

        Args:
            used: the kind of each adapter in use, as often as there are such.
        """
        used = list(used)
        idle = [slots for slots in self._kinds if slots not in used]
        self._kinds = [*idle, *dict.fromkeys(used)]
        for slots in idle[: max(0, len(idle) - SPARE_KINDS)]:
            slots.forget_slots(0)
        for slots in self._kinds:
            slots.forget_slots(used.count(slots) + SPARE_SLOTS)

    def tensors(self) -> Iterator[Tensor]:
        """All tensors that are held, some of them more than once."""
        for slots in self._kinds:
            yield from slots.tensors()


@torch.no_grad()
def fill(slot: SuperLoRA, numbers: Tensor, scale: float) -> None:
    """Put numbers and a scale into a slot, in place. What ``cached()`` kept of it is let go.

    Args:
        slot: attached or not.
        numbers: of :meth:`Slots.pack`.
        scale: the whole factor on the update.
    """
    parameters = list(slot.parameters())
    pieces = numbers.to(parameters[0].device).split([parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.copy_(piece.view_as(parameter))
    slot._pinned = None
    slot.set_scale(scale)


def free_name(network: nn.Module) -> str:
    """A name that no adapter of the network has."""
    host, number = host_of(network), 0
    while host is not None and f"bank_{number}" in host.adapters:
        number += 1
    return f"bank_{number}"
