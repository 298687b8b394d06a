"""Singular: numbers along the base's own singular directions, those of each weight matrix for itself.

With W = U diag(s) V^T of one target and c the mean of its first k singular values, k = min(directions, out, in):

    dW = c U[:, :k] diag(x) V[:, :k]^T,   x the target's stretch of the generated numbers

A number says by how much, in units of the matrix, one thing that the matrix already does is done more or less; none of
them makes the matrix do something new. All singular values of all convolutions, without joining them, is SVDiff (Han
et al. 2023, arXiv 2303.11305). A target that is a vector, or a matrix of one row, takes one number an entry as it is.

The m numbers of a group are its targets' stretches one after the other, each of the target's own length: k, or the
vector's. Under the fold "none" every stretch has the length of the longest in the group, so that the numbers are a
matrix (targets, directions); what a shorter one has too many is left out.

The arrays follow from the base's weights, not from a seed: they are made again wherever the adapter is attached, and
stored only where that is asked for. The signs of U and V are arbitrary, but those of a pair go together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .stretches import stretch

LEFT, RIGHT, ENTRIES = "left", "right", "entries"


@torch.no_grad()
def derive(weights: Sequence[Tensor], directions: int) -> dict[str, Tensor]:
    """The arrays of one group, on the CPU, from its targets' weights.

    Args:
        weights: of the base, finite, of any type and shape (out, ...); (n,) for a vector.
        directions: most singular directions of a matrix.

    Returns:
        fp32, for target i: left{i} (out, k), the singular vectors times the mean singular value, and right{i}
        (k, in); or entries{i} (n,), ones, for a vector.
    """
    arrays: dict[str, Tensor] = {}
    for i, weight in enumerate(weights):
        if weight.dim() == 1 or weight.shape[0] == 1:
            arrays[f"{ENTRIES}{i}"] = torch.ones(weight.numel(), dtype=torch.float32)
            continue
        # In double precision, so that another machine's last bits do not turn directions of near singular values.
        matrix = weight.detach().cpu().double().flatten(1)
        k = stretch(*matrix.shape, directions)
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        arrays[f"{LEFT}{i}"] = (u[:, :k] * s[:k].mean()).float().contiguous()
        arrays[f"{RIGHT}{i}"] = v[:k].float().contiguous()
    return arrays


def singular(x: Tensor, **arrays: Tensor) -> Tensor:
    """The whole map at once: (m,) -> (n,); the readable twin of :func:`spread`, differentiable."""
    pieces = []
    for place in _places(x.shape[0], arrays):
        mine = x[place.numbers]
        pieces.append(mine if place.right is None else ((place.left * mine) @ place.right).reshape(-1))
    return torch.cat(pieces)


def spread(x: Tensor, out: Tensor, **arrays: Tensor) -> None:
    """Write y = F(x) (n,)."""
    for place in _places(x.shape[0], arrays):
        weights = out[place.weights].view(place.shape)
        if place.right is None:
            weights.copy_(x[place.numbers])
        else:
            torch.mm(place.left * x[place.numbers], place.right, out=weights)


def pull_back(grad: Tensor, m: int, **arrays: Tensor) -> Tensor:
    """The transpose: gradient of y (n,) to gradient of x (m,): c u_i^T G v_i of each direction."""
    gradient = grad.new_zeros(m)
    for place in _places(m, arrays):
        part = grad[place.weights].view(place.shape)
        if place.right is not None:
            part = ((place.left.t() @ part) * place.right).sum(1)
        gradient[place.numbers] = part
    return gradient


class _Place(NamedTuple):
    """One target of a group."""

    numbers: slice
    """Where its own lie among the m."""
    weights: slice
    """Where they go among the n."""
    shape: tuple[int, ...]
    """(out, in); (n,) of a vector."""
    left: Tensor
    right: Tensor | None
    """None of a vector."""


def _places(m: int, arrays: dict[str, Tensor]) -> Iterator[_Place]:
    """The targets in order."""
    targets = _targets(arrays)
    lengths = [left.shape[0] if right is None else right.shape[0] for left, right in targets]
    longest = max(lengths)
    is_aligned = m == len(lengths) * longest  # also where all have one length
    number = weight = 0
    for length, (left, right) in zip(lengths, targets, strict=True):
        shape = (length,) if right is None else (left.shape[0], right.shape[1])
        end = weight + math.prod(shape)
        yield _Place(slice(number, number + length), slice(weight, end), shape, left, right)
        number, weight = number + (longest if is_aligned else length), end


def _targets(arrays: dict[str, Tensor]) -> list[tuple[Tensor, Tensor | None]]:
    count = sum(not name.startswith(RIGHT) for name in arrays)
    return [
        (arrays[f"{LEFT}{i}"], arrays[f"{RIGHT}{i}"])
        if f"{LEFT}{i}" in arrays
        else (arrays[f"{ENTRIES}{i}"], None)
        for i in range(count)
    ]
