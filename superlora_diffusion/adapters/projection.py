"""The fixed map F from m generated numbers to n weights, by name.

The arrays *are* part of the model: they are drawn on the CPU from a generator of their own, seeded by a hash of
(config seed, group index), and never from global state. Every map but the tanh is linear, so that beside the readable
reference (``project``) stand the map and its transpose, written without a graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import block_hadamard, fastfood, permutation

Arrays = dict[str, Tensor]

_TANH = "_tanh"


def draw_arrays(kind: str, n: int, m: int, seed: int, group: int) -> Arrays:
    """The fixed arrays of one group; {} for "none"."""
    kind = kind.removesuffix(_TANH)
    if kind == "none":
        return {}
    if kind == "block_hadamard":
        return block_hadamard.draw(n, m, seed, group)
    return (permutation if kind == "shuffle" else fastfood).draw(n, seed, group)


def project(kind: str, x: Tensor, n: int, arrays: Arrays) -> Tensor:
    """y = F(x): (m,) -> (n,). The reference, differentiable; what a compiler is given."""
    if kind == "none":
        return x
    if kind == "shuffle":
        return permutation.shuffle(x, **arrays)
    if kind == "block_hadamard":
        return block_hadamard.block_hadamard(x, n, **arrays)
    y = fastfood.fastfood(x, n, **arrays)
    return torch.tanh(y) if kind.endswith(_TANH) else y


def project_into(kind: str, x: Tensor, out: Tensor, arrays: Arrays) -> None:
    """Write the first len(out) entries of F(x), without gradient; for every kind but "none"."""
    _FAST[kind.removesuffix(_TANH)].spread(x, out, **arrays)
    if kind.endswith(_TANH):
        out.tanh_()


def pull_back(kind: str, grad: Tensor, x: Tensor, arrays: Arrays) -> Tensor:
    """Gradient of x (m,) from that of the first len(grad) entries of F(x); for every kind but "none"."""
    if kind.endswith(_TANH):
        y = torch.empty_like(grad)
        project_into(kind, x, y, arrays)
        grad = grad * (1 - y * y)
    return _FAST[kind.removesuffix(_TANH)].pull_back(grad, x.shape[0], **arrays)


_FAST = {"shuffle": permutation, "fastfood": fastfood, "block_hadamard": block_hadamard}
