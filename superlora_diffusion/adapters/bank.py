"""``AdapterBank``: many adapters of one network by name, few of them attached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import AdapterError, nearest
from .attaching import connect
from .denoiser import denoiser_of
from .fingerprint import fingerprint
from .host import rewrite_weights
from .module import SuperLoRA
from .reading import WEIGHTS
from .remote import find_adapter_folder
from .slots import SlotPool, Slots, fill, free_name
from .storage import base_weights, read_stored, read_tensors, warn_of_another_base

Choice = str | Mapping[str, float] | None


@dataclass(frozen=True)
class _Entry:
    numbers: Tensor
    """All of its trained numbers (count,), fp32, on the CPU."""
    scale: float
    """The effective scale it was stored with."""
    slots: Slots


class AdapterBank:
    """Many adapters of one network, of any settings, of which some are in use, each with a weight.

    Adapters that differ only in their numbers share attached slots: to switch is to copy numbers in place, and plan
    and fixed arrays exist once. Nothing of a bank trains. Switch between calls of the network, from one thread.

    Example:
        >>> bank = AdapterBank(network)
        >>> bank.add("cats", "runs/cats/adapter")
        >>> bank.add("dogs", "runs/dogs/adapter")
        >>> bank.use({"cats": 0.7, "dogs": 0.3})
    """

    def __init__(self, network: nn.Module | Any) -> None:
        """An empty bank; the network is untouched.

        Args:
            network: what the adapters are for, or a diffusers pipeline, whose ``unet`` or ``transformer`` is taken.
        """
        self.network = denoiser_of(network)
        self.is_merged = False
        """Whether updates are added to the weights themselves. Switching keeps it so."""
        self.scale = 1.0
        """Factor on all weights."""
        self._entries: dict[str, _Entry] = {}
        self._pool = SlotPool(self.network)
        self._active: dict[str, float] = {}
        self._attached: list[SuperLoRA] = []
        self._returns_to: list[dict[str, float]] = []  # one a using() block
        self._cached = 0
        self._fingerprint: dict | None = None

    # --- what is in it ---

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all adapters, in the order in which they were added."""
        return tuple(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"AdapterBank({len(self):,} adapters, {self.nbytes / 2**20:.1f} MiB, in use: {self._active})"

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors: every adapter's numbers, the slots, their fixed arrays.

        Updates that exist during a call of the network, or that :meth:`cached` keeps, are not counted.
        """
        tensors = [*(entry.numbers for entry in self._entries.values()), *self._pool.tensors()]
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
        return sum(storage.nbytes() for storage in storages.values())

    def add(
        self, name: str, source: Path | str, *, revision: str | None = None, subfolder: str | None = None
    ) -> None:
        """Read an adapter. Nothing of the network changes.

        Args:
            name: any name that is not taken.
            source: an adapter folder, or a hub id ("user/name") that is no folder here.
            revision: branch, tag or commit of a hub id.
            subfolder: where in the folder or the repository the adapter lies.

        Raises:
            AdapterError: for a name that is taken, an id that the hub does not give, a missing or broken file, a target
                the network lacks, a wrong shape, or a projection that this machine draws differently.
            ConfigError: for settings that do not fit the targets.

        Warns:
            UserWarning: if the network's weights are not those the adapter was trained on.
        """
        if not isinstance(name, str) or not name:
            raise AdapterError(f"adapter name {name!r} is no name; give a text of at least one character.")
        if name in self._entries:
            raise AdapterError(
                f"the bank has an adapter named {name!r} already; give another name, or remove that one first."
            )
        folder = find_adapter_folder(source, revision, subfolder)
        stored = read_stored(folder)
        scale = stored.config.scale * _finite(stored.run_scale, f"run_scale of {folder}")
        slots = self._pool.slots_for(stored, folder)
        numbers = slots.pack(read_tensors(folder / WEIGHTS), folder / WEIGHTS)
        if self._fingerprint is None:
            self._fingerprint = fingerprint(base_weights(self.network))
        warn_of_another_base(stored, self._fingerprint, folder)
        self._entries[name] = _Entry(numbers, scale, slots)
        self._pool.keep(slots)
        self._tidy()

    def count(self, name: str) -> int:
        """How many trained numbers an adapter has.

        Raises:
            AdapterError: for an unknown name.
        """
        return self._entry(name).numbers.numel()

    def remove(self, name: str) -> None:
        """Forget an adapter; what only it needed goes with it.

        Raises:
            AdapterError: for an unknown name, or one that is in use or that a :meth:`using` block returns to.
        """
        entry = self._entry(name)
        if any(name in choice for choice in (self._active, *self._returns_to)):
            raise AdapterError(
                f"adapter {name!r} is in use; switch to another one first, or to the base: use(None)."
            )
        del self._entries[name]
        self._pool.release(entry.slots)

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            first = ", ".join(map(repr, self.names[:10])) + (", ..." if len(self) > 10 else "")
            has = f"It has {len(self)}: {first}." if self._entries else "It is empty."
            raise AdapterError(f"the bank has no adapter {name!r}.{nearest(name, self._entries)} {has}")
        return self._entries[name]

    # --- what is in use ---

    @property
    def active(self) -> dict[str, float]:
        """The weights of what is in use, by name; empty for the base."""
        return dict(self._active)

    @property
    def num_parameters(self) -> int:
        """How many trained numbers the adapters in use have together."""
        return sum(self.count(name) for name in self._active)

    def use(self, choice: Choice) -> None:
        """Switch to one adapter, to a mix, or to the base. An adapter of weight 0 takes no part.

        Args:
            choice: a name, weights by name, or None for the base, bit for bit.

        Raises:
            AdapterError: for an unknown name or a weight that is no finite number, when nothing has changed; or for a
                network whose layers were replaced, when it is left without the bank's adapters.
        """
        wanted = self._checked(choice)
        self._write_weights(merged=False)  # or each slot that is filled would write them anew
        try:
            self._switch(wanted)
        except Exception:
            self._switch({})
            raise
        self._write_weights(self.is_merged)
        self._renew_kept()
        self._tidy()

    @contextmanager
    def using(self, choice: Choice) -> Iterator[None]:
        """:meth:`use` for the block; then what was in use before is again."""
        before = self._active
        self.use(choice)
        self._returns_to.append(before)
        try:
            yield
        finally:
            self._returns_to.pop()
            self.use(before)

    def disabled(self) -> AbstractContextManager[None]:
        """The base, bit for bit, for the block."""
        return self.using(None)

    def set_scale(self, scale: float) -> None:
        """Set the factor on all weights, now and after any switch.

        Raises:
            AdapterError: unless it is a finite number.
        """
        self.scale = _finite(scale, "scale")
        self.use(self._active)

    def deltas(self) -> dict[str, Tensor]:
        """{target name: the sum of the updates in use}, fp32, in the weight's shape, weights and scales included."""
        total: dict[str, Tensor] = {}
        for slot in self._attached:
            for name, delta in slot.deltas().items():
                total[name] = total[name] + delta if name in total else delta
        return total

    @contextmanager
    def cached(self) -> Iterator[None]:
        """Updates generated once for the block, or once after each switch in it."""
        self._cached += 1
        self._renew_kept()
        try:
            yield
        finally:
            self._cached -= 1
            self._renew_kept()

    def merge(self) -> None:
        """Add the updates in use to the weights themselves, and those of every switch to come."""
        self.is_merged = True
        self._write_weights(merged=True)
        self._renew_kept()

    def unmerge(self) -> None:
        """Undo :meth:`merge`: the weights are what they were, bit for bit."""
        self.is_merged = False
        self._write_weights(merged=False)
        self._renew_kept()

    def unload(self, keep_merged: bool = False) -> nn.Module:
        """Leave the network, which is then the base again, bit for bit. The bank keeps its adapters.

        Args:
            keep_merged: leave the updates of a merged bank in the weights.

        Returns:
            the network.

        Raises:
            AdapterError: for ``keep_merged`` without :meth:`merge`.
        """
        if keep_merged and not self.is_merged:
            raise AdapterError("the bank is not merged; call merge() before unload(keep_merged=True).")
        if keep_merged:
            for slot in self._attached:
                slot.unload(keep_merged=True)
            self._attached, self._fingerprint = [], None
        self.is_merged = False
        self.use(None)
        return self.network

    # --- how ---

    def _checked(self, choice: Choice) -> dict[str, float]:
        if choice is None:
            return {}
        if isinstance(choice, str):
            choice = {choice: 1.0}
        if not isinstance(choice, Mapping):
            raise AdapterError(f"got {choice!r}: a name, a mapping of names to weights, or None is accepted.")
        for name in choice:
            self._entry(name)
        return {name: _finite(weight, f"weight of adapter {name!r}") for name, weight in choice.items()}

    def _switch(self, wanted: Mapping[str, float]) -> None:
        """Detach the slots that are not needed, attach those that are, and put the numbers in."""
        numbered: Counter[Slots] = Counter()
        chosen: list[tuple[SuperLoRA, Tensor, float]] = []
        for name, weight in wanted.items():
            entry = self._entries[name]
            scale = entry.scale * weight * self.scale
            if scale != 0:
                chosen.append((entry.slots.slot(numbered[entry.slots]), entry.numbers, scale))
                numbered[entry.slots] += 1
        needed = [slot for slot, _, _ in chosen]
        for slot in [slot for slot in self._attached if slot not in needed]:
            self._detach(slot)
        for slot, numbers, scale in chosen:
            if slot not in self._attached:
                self._attach(slot)
            fill(slot, numbers, scale)
        self._active = dict(wanted)

    def _attach(self, slot: SuperLoRA) -> None:
        slot.name = free_name(self.network)
        connect(self.network, slot)
        self._attached.append(slot)

    def _detach(self, slot: SuperLoRA) -> None:
        slot.unload()
        slot._pinned = None
        self._attached.remove(slot)

    def _write_weights(self, merged: bool) -> None:
        """Merge or unmerge all attached slots at once."""
        if any(slot.is_merged != merged for slot in self._attached):
            for slot in self._attached:
                slot.is_merged = merged
            rewrite_weights(self.network)

    def _renew_kept(self) -> None:
        """Keep the updates of what is attached now in a ``cached()`` block, and none outside."""
        for slot in self._attached:
            slot._pinned = None
            if self._cached and not self.is_merged:
                slot._pin()

    def _tidy(self) -> None:
        self._pool.tidy([self._entries[name].slots for name in self._active])


def _finite(value: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterError(f"{what}: got {value!r}; a finite number is accepted.")
    return float(value)
