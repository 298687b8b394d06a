"""The fixed map F from m generated numbers to n weights, by name.

The arrays *are* part of the model: they are drawn on the CPU from a generator of their own, seeded by a hash of
(config seed, group index), and never from global state; those of ``singular`` follow from the base's weights instead.
Every map but the tanh is linear, so that beside the readable reference (``project``) stand the map and its transpose,
written without a graph.

A group's ``grid`` is (out, in) where it is one whole weight, else (1, n); n is their product.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import block_hadamard, fastfood, fourier, gather, permutation, singular

Arrays = dict[str, Tensor]

_TANH = "_tanh"


def draw_arrays(kind: str, grid: tuple[int, int], m: int, seed: int, group: int) -> Arrays:
    """The fixed arrays of one group; {} for "none". Of every kind but "singular", which draws nothing."""
    kind, n = kind.removesuffix(_TANH), math.prod(grid)
    if kind == "none":
        return {}
    if kind == "fourier":
        return fourier.draw(grid, m, seed, group)
    if kind in ("block_hadamard", "gather"):
        return _FAST[kind].draw(n, m, seed, group)
    return _FAST[kind].draw(n, seed, group)


def project(kind: str, x: Tensor, grid: tuple[int, int], arrays: Arrays) -> Tensor:
    """y = F(x): (m,) -> (n,). The reference, differentiable; what a compiler is given."""
    n = math.prod(grid)
    if kind == "none":
        return x
    if kind == "shuffle":
        return permutation.shuffle(x, **arrays)
    if kind == "block_hadamard":
        return block_hadamard.block_hadamard(x, n, **arrays)
    if kind == "gather":
        return gather.gather(x, **arrays)
    if kind == "fourier":
        return fourier.fourier(x, grid, **arrays)
    if kind == "singular":
        return singular.singular(x, **arrays)
    y = fastfood.fastfood(x, n, **arrays)
    return torch.tanh(y) if kind.endswith(_TANH) else y


def project_into(kind: str, x: Tensor, out: Tensor, grid: tuple[int, int], arrays: Arrays) -> None:
    """Write the first len(out) entries of F(x), without gradient; for every kind but "none"."""
    _FAST[kind.removesuffix(_TANH)].spread(x, out, **_fixed(kind, grid, arrays))
    if kind.endswith(_TANH):
        out.tanh_()


def pull_back(kind: str, grad: Tensor, x: Tensor, grid: tuple[int, int], arrays: Arrays) -> Tensor:
    """Gradient of x (m,) from that of the first len(grad) entries of F(x); for every kind but "none"."""
    if kind.endswith(_TANH):
        y = torch.empty_like(grad)
        project_into(kind, x, y, grid, arrays)
        grad = grad * (1 - y * y)
    return _FAST[kind.removesuffix(_TANH)].pull_back(grad, x.shape[0], **_fixed(kind, grid, arrays))


def _fixed(kind: str, grid: tuple[int, int], arrays: Arrays) -> dict:
    """What stands still of a map: its arrays, and the grid where it depends on more than their lengths."""
    return {"grid": grid, **arrays} if kind == "fourier" else arrays


_FAST = {
    "shuffle": permutation,
    "fastfood": fastfood,
    "block_hadamard": block_hadamard,
    "gather": gather,
    "fourier": fourier,
    "singular": singular,
}
