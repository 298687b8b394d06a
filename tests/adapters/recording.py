"""What is computed and how much of it lives at once, counted operation by operation instead of timed."""

from __future__ import annotations

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Recorder(TorchDispatchMode):
    """Sizes of all results inside the block, and the memory that was newly taken and lived at the same time.

    What is given from outside does not count, nor do views. Sizes are in numbers of four bytes.
    """

    def __init__(self, large: int = 2**62):
        super().__init__()
        self.results: list[tuple[str, int]] = []
        self.peak = 0.0
        self.large, self.most_large = large, 0
        """How many tensors of at least ``large`` numbers lived at once."""
        self._given: dict[int, StorageWeakRef] = {}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self._forget_freed()
        for tensor in tensors_in((args, kwargs)):
            key = tensor.untyped_storage()._cdata
            if key not in self._live:
                self._given[key] = StorageWeakRef(tensor.untyped_storage())
        out = func(*args, **kwargs)
        for tensor in tensors_in(out):
            self.results.append((str(func), tensor.numel()))
            self._note(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        sizes = [size / 4 for _, size in self._live.values()]
        self.most_large = max(self.most_large, sum(size >= self.large for size in sizes))
        return out

    @property
    def live(self) -> float:
        """What was taken inside the block and still is there."""
        self._forget_freed()
        return sum(size for _, size in self._live.values()) / 4

    @property
    def largest(self) -> int:
        """The numbers of the largest result."""
        return max(size for _, size in self.results)

    def _note(self, storage) -> None:
        if storage._cdata not in self._given:
            self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())

    def _forget_freed(self) -> None:
        self._given = {key: ref for key, ref in self._given.items() if not ref.expired()}
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}


def tensors_in(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
