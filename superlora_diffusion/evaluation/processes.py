"""Scoring by several processes (`accelerate launch`): each draws a run of the images, all get all rows.

An image depends on the seed and its number alone, and the runs are cut where one process would begin a new batch,
so the rows are the same whatever the number of processes.
"""

from __future__ import annotations

import os
from itertools import chain

import numpy as np
import torch
import torch.distributed as dist

from superlora_diffusion.evaluation.features import Features


def join_launched(device: torch.device) -> torch.device:
    """Meet the other processes of a launch, if this is one; returns the device of this process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    return device if device.type == "cpu" else state.device


def rank_and_count() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) unless they have met."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def is_main() -> bool:
    """Whether this process writes and prints."""
    return rank_and_count()[0] == 0


def slice_of(count: int, batch_size: int, rank: int, processes: int) -> slice:
    """The images of one process: whole batches of the ``count`` images, as even as they come; may be empty."""
    batches = -(-count // batch_size)
    first, stop = (batches * place // processes * batch_size for place in (rank, rank + 1))
    return slice(min(first, count), min(stop, count))


def joined(mine: Features | None, labels: np.ndarray | None) -> Features:
    """The rows of all processes in order (None: this one had no images), with the labels of all."""
    _, processes = rank_and_count()
    if processes == 1:
        return Features(mine.features, mine.logits, labels)
    parts: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * processes
    dist.all_gather_object(parts, None if mine is None else (mine.features, mine.logits))
    features, logits = zip(*chain(part for part in parts if part is not None), strict=True)
    return Features(torch.cat(features), torch.cat(logits), labels)
