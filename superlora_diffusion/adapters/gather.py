"""Gather: each of n weights takes one of m numbers; every number is taken equally often, give or take one.

    y_i = sqrt(n / m) x_j / sqrt(c_j),   j = p_i mod m

p is a random order of 0..n-1 and c_j how often j is taken: n // m times, the first n mod m numbers once more, so that
no number is lost. The columns of the map are orthogonal and all of norm sqrt(n / m): it is exactly that times an
isometry, and entries keep their variance. It is the map of Uni-LoRA (Li et al. 2025, arXiv 2506.00799), there without
the factor sqrt(n / m) and onto LoRA's factors, and a balanced form of hashed weight sharing (Chen et al. 2015, arXiv
1504.04788). O(n) operations and 4 n bytes of arrays; with m = n it is a shuffle.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..randomness import generator_for
from . import permutation

_MANY = 256
"""Addends of one number above which they are summed in double precision: small ones would be lost."""
_WIDENED = 2**18  # gradients widened at once


def draw(n: int, m: int, seed: int, group: int) -> dict[str, Tensor]:
    """indices (n,): which of the m numbers each weight takes."""
    return {"indices": permutation.draw_permutation(n, generator_for("projection", seed, group)) % m}


def gather(x: Tensor, indices: Tensor) -> Tensor:
    """The whole map at once: (m,) -> (n,); the readable twin of :func:`spread`, differentiable."""
    return _normed(x, indices.shape[0]).index_select(0, indices)


def spread(x: Tensor, out: Tensor, indices: Tensor) -> None:
    """Write the first len(out) entries of y."""
    torch.index_select(_normed(x, indices.shape[0]), 0, indices[: out.shape[0]], out=out)


def pull_back(grad: Tensor, m: int, indices: Tensor) -> Tensor:
    """The transpose: gradient of y's first len(grad) entries to gradient of x (m,)."""
    n, places = indices.shape[0], indices[: grad.shape[0]]
    if m == n:  # a shuffle: writing by index is faster than adding
        return permutation.pull_back(grad, m, indices)
    wide = torch.float64 if n > _MANY * m else grad.dtype
    gradient = torch.zeros(m, dtype=wide, device=grad.device)
    for part, values in zip(places.split(_WIDENED), grad.split(_WIDENED), strict=True):
        gradient.index_add_(0, part, values.to(wide))
    return _normed(gradient, n).to(grad.dtype)


def _normed(x: Tensor, n: int) -> Tensor:
    """sqrt(n / m) x_j / sqrt(c_j): (m,)."""
    m = x.shape[0]
    times, more = divmod(n, m)
    if more == 0:
        return x
    rare, often = (math.sqrt(n / m / count) for count in (times, times + 1))
    return torch.cat([x[:more] * often, x[more:] * rare])
