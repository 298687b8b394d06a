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

from collections.abc import Iterator, Sequence

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
    for numbers, (left, right) in _pairs(x.shape[0], arrays):
        mine = x[numbers]
        pieces.append(mine if right is None else ((left * mine) @ right).reshape(-1))
    return torch.cat(pieces)


def spread(x: Tensor, out: Tensor, **arrays: Tensor) -> None:
    """Write y = F(x) (n,)."""
    start = 0
    for numbers, (left, right) in _pairs(x.shape[0], arrays):
        rows, columns = (1, left.shape[0]) if right is None else (left.shape[0], right.shape[1])
        place = out[start : start + rows * columns]
        if right is None:
            place.copy_(x[numbers])
        else:
            torch.mm(left * x[numbers], right, out=place.view(rows, columns))
        start += rows * columns


def pull_back(grad: Tensor, m: int, **arrays: Tensor) -> Tensor:
    """The transpose: gradient of y (n,) to gradient of x (m,): c u_i^T G v_i of each direction."""
    gradient, start = grad.new_zeros(m), 0
    for numbers, (left, right) in _pairs(m, arrays):
        rows, columns = (1, left.shape[0]) if right is None else (left.shape[0], right.shape[1])
        part = grad[start : start + rows * columns]
        if right is None:
            gradient[numbers] = part
        else:
            gradient[numbers] = ((left.t() @ part.view(rows, columns)) * right).sum(1)
        start += rows * columns
    return gradient


def _pairs(m: int, arrays: dict[str, Tensor]) -> Iterator[tuple[slice, tuple[Tensor, Tensor | None]]]:
    """Of each target in order: where its numbers lie among the m, and (left, right); (entries, None) of a vector."""
    targets = _targets(arrays)
    lengths = [left.shape[0] if right is None else right.shape[0] for left, right in targets]
    longest = max(lengths)
    is_aligned = m == len(lengths) * longest  # also where all have one length
    start = 0
    for length, target in zip(lengths, targets, strict=True):
        yield slice(start, start + length), target
        start += longest if is_aligned else length


def _targets(arrays: dict[str, Tensor]) -> list[tuple[Tensor, Tensor | None]]:
    count = sum(not name.startswith(RIGHT) for name in arrays)
    return [
        (arrays[f"{LEFT}{i}"], arrays[f"{RIGHT}{i}"])
        if f"{LEFT}{i}" in arrays
        else (arrays[f"{ENTRIES}{i}"], None)
        for i in range(count)
    ]
