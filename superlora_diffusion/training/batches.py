"""Which images, which noise: a function of (seed, rank, progress), so that a resumed run goes on exactly."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
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


def spread_evenly(total: int, count: int) -> Tensor:
    """Indices of at most ``count`` of ``total`` images, evenly spread over all."""
    return torch.linspace(0, total - 1, min(count, total)).round().long()


def bucket_batches(
    counts: Sequence[int], batch_size: int, number: int, seed: int, rank: int = 0, world: int = 1
) -> tuple[int, Tensor]:
    """Bucket and indices (batch_size,) in it of one process's batch, for images that come in several shapes.

    Every bucket is walked through by :func:`batch_indices`, without a gap; at one step all processes are in the
    same bucket. In E epochs a bucket of c images has ceil(E c / B) batches, B images being in one of all
    processes together: a last batch that is not full is filled with the bucket's next images, which it owes
    in the epoch after. So every image is seen at least E times, and more only by that filling. The batches of
    an epoch come in a random order. With one bucket this is ``batch_indices``.

    Args:
        counts: number of images of each bucket, each at least 1.
        batch_size: images a process and batch.
        number: number of the batch, from 0, over all epochs.
        seed, rank, world: seed of the run, number of this process, number of processes.
    """
    counts, together = tuple(counts), batch_size * world

    def batches_before(epoch: int) -> int:
        return sum(_batches_done(count, together, epoch) for count in counts)

    # An epoch without batches of its own (few images, large batches) ends where it begins: the last one counts.
    latest = number * together // sum(counts)
    epoch = bisect_right(range(latest + 1), number, key=batches_before) - 1
    bucket, turn = _epoch_buckets(counts, together, seed, epoch)[number - batches_before(epoch)]
    return bucket, batch_indices(counts[bucket], batch_size, turn, seed, rank, world)


def _batches_done(count: int, together: int, epoch: int) -> int:
    """How many batches a bucket has had when ``epoch`` begins."""
    return -(-epoch * count // together)


@lru_cache(maxsize=2)
def _epoch_buckets(counts: tuple[int, ...], together: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    """(bucket, number of its batch) of each batch of an epoch: shuffled, a bucket's own in their order."""
    turns = [
        range(_batches_done(count, together, epoch), _batches_done(count, together, epoch + 1))
        for count in counts
    ]
    buckets = [bucket for bucket, own in enumerate(turns) for _ in own]
    order = torch.randperm(len(buckets), generator=generator_for("buckets", seed, epoch)).tolist()
    following = [iter(own) for own in turns]
    return [(buckets[place], next(following[buckets[place]])) for place in order]
