"""Shuffle: a fixed random permutation of a group's numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..randomness import generator_for

_WIDENED = 2**20  # indices widened to 64 bits at once, which writing by index asks for


def draw(n: int, seed: int, group: int) -> dict[str, Tensor]:
    """permutation (n,)."""
    return {"permutation": draw_permutation(n, generator_for("projection", seed, group))}


def draw_permutation(length: int, generator: torch.Generator) -> Tensor:
    """A random order of 0..length-1, in 32 bits where they are enough: half the memory."""
    order = torch.randperm(length, generator=generator)
    return order.to(torch.int32) if length < 2**31 else order


def shuffle(x: Tensor, permutation: Tensor) -> Tensor:
    """y[i] = x[permutation[i]]: (n,) -> (n,)."""
    return x.index_select(0, permutation)


def spread(x: Tensor, out: Tensor, permutation: Tensor) -> None:
    """Write the first len(out) entries of y."""
    torch.index_select(x, 0, permutation[: out.shape[0]], out=out)


def pull_back(grad: Tensor, m: int, permutation: Tensor) -> Tensor:
    """The transpose: gradient of y's first len(grad) entries to gradient of x (m,)."""
    gradient = torch.zeros(m, dtype=grad.dtype, device=grad.device)
    for places, part in zip(permutation[: grad.shape[0]].split(_WIDENED), grad.split(_WIDENED), strict=True):
        gradient.index_copy_(0, places.long(), part)
    return gradient
