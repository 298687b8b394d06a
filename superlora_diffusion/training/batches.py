"""Which images, which noise: a function of (seed, rank, progress), so that a resumed run goes on exactly."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..randomness import generator_for


def batch_indices(count: int, batch_size: int, step: int, seed: int, rank: int = 0, world: int = 1) -> Tensor:
    """Indices (batch_size,) of the images of one process's batch.

    The images are walked through in a fresh random order each epoch, without a gap between epochs; at one
    step the processes take neighbouring stretches of that walk, so that no image is seen twice in an epoch.

    Args:
        count: number of images.
        batch_size: images a process and batch.
        step: number of the batch, from 0, over all epochs.
        seed, rank, world: seed of the run, number of this process, number of processes.
    """
    start = (step * world + rank) * batch_size
    places = range(start, start + batch_size)
    return torch.stack([_epoch_order(count, seed, place // count)[place % count] for place in places])


@lru_cache(maxsize=2)
def _epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator_for("epoch", seed, epoch))
