"""The updates of one forward pass: each unit is generated when a layer first needs it, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .autograd import Settings, generate_unit

if TYPE_CHECKING:
    from .module import SuperLoRA


class Updates:
    """Updates of an adapter's targets, or their weights with the update added, by target index."""

    def __init__(self, adapter: SuperLoRA, added: bool, grad: bool) -> None:
        """Nothing is generated yet.

        Args:
            adapter: whose.
            added: whether weight + update is held (in the memory of the update) instead of the update.
            grad: whether a gradient will be asked for. Known at the start of the forward: a checkpointed block
                that needs a unit first runs without one.
        """
        self.adapter, self.added, self.grad = adapter, added, grad
        self._tensors, self._arrays = adapter.tensors(), adapter.arrays()
        self._used = False
        self._units: dict[int, list[Tensor]] = {}
        self._bases: dict[int, list[tuple]] = {}

    def __getitem__(self, index: int) -> Tensor:
        number, place = self.adapter.unit_of[index]
        if number not in self._units:
            self._generate(number)
        return self._units[number][place]

    def generate_all(self) -> Updates:
        """Generate every unit now."""
        for number in range(len(self.adapter.units)):
            self._generate(number)
        return self

    def note_use(self) -> None:
        """Count the pass as one that generates, the first time."""
        if not self._used:
            self._used = True
            self.adapter.generations += 1

    def drop_if_base_changed(self, index: int) -> None:
        """Forget the unit of a target whose weight is no longer the one that the update was added to."""
        number, place = self.adapter.unit_of[index]
        if self.added and number in self._units:
            weight = self.adapter.weight_of(index)
            if self._bases[number][place] != _mark(weight):
                del self._units[number]

    def _generate(self, number: int) -> None:
        self.note_use()
        unit, bases = self.adapter.units[number], None
        if self.added:
            weights = [self.adapter.weight_of(index) for index in unit.members]
            bases = [weight.detach() for weight in weights]
            self._bases[number] = [_mark(weight) for weight in weights]
        with torch.set_grad_enabled(self.grad):
            kind, scale = self.adapter.config.projection, self.adapter.scale
            settings = Settings(unit, self._arrays, kind, scale, bases)
            self._units[number] = generate_unit(settings, self._tensors)


def _mark(weight: Tensor) -> tuple:
    """What changes when a weight is moved, cast or written to."""
    return weight.data_ptr(), weight.dtype, None if weight.is_inference() else weight._version
