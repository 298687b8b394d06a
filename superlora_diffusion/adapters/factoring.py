"""Factoring: tensors from cores and factor matrices (arXiv 2403.11887, equations 3 to 6).

Legend: M = order, s_i = side of mode i, r_i = its rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

from torch import Tensor


def cp(factors: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
    """CP: T[i_1..i_M] = sum_r w_r A_1[i_1, r] ... A_M[i_M, r] (Kolda & Bader 2009, equation 3.1).

    The modes are joined in two halves, so that the largest intermediate is about the square root of the
    result times the rank; with M = 2 and no weights it is A_1 A_2^T.

    Args:
        factors: M matrices (s_i, r).
        weights: (r,) or None for ones.

    Returns:
        (s_1, ..., s_M).
    """
    half = len(factors) // 2
    left, right = (reduce(khatri_rao, part) for part in (factors[:half], factors[half:]))
    if weights is not None:
        left = left * weights
    return (left @ right.t()).reshape([factor.shape[0] for factor in factors])


def khatri_rao(a: Tensor, b: Tensor) -> Tensor:
    """Column-wise Kronecker product: (s, r), (t, r) -> (s * t, r)."""
    return (a[:, None, :] * b[None, :, :]).reshape(-1, a.shape[1])


def tucker(core: Tensor, factors: Sequence[Tensor | None]) -> Tensor:
    """Tucker: C x_1 A_1 ... x_M A_M (Kolda & Bader 2009, equation 4.1).

    One mode after the other is multiplied and moved to the end, so after M of them the order is as before.

    Args:
        core: (r_1, ..., r_M).
        factors: M matrices (s_i, r_i); None for a mode that the core carries whole.

    Returns:
        (s_1, ..., s_M).
    """
    sides = [core.shape[i] if factor is None else factor.shape[0] for i, factor in enumerate(factors)]
    tensor = core
    for rank, factor in zip(core.shape, factors, strict=True):
        rest_first = tensor.reshape(rank, -1).t()  # (rest, r_i)
        tensor = rest_first if factor is None else rest_first @ factor.t()  # (rest, s_i)
    return tensor.reshape(sides)


def kronecker(matrices: Sequence[Tensor]) -> Tensor:
    """B_1 (x) ... (x) B_K, the first slowest; the small ones are joined first.

    Args:
        matrices: K matrices (a_k, b_k).

    Returns:
        (prod a_k, prod b_k).
    """
    return matrices[0] if len(matrices) == 1 else _kron(reduce(_kron, matrices[:-1]), matrices[-1])


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """(p, q), (r, s) -> (p * r, q * s). torch.kron refuses operands that are not row-major, such as a Tucker's."""
    product = a[:, None, :, None] * b[None, :, None, :]
    return product.reshape(a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])


def first_entries(tensor: Tensor, count: int) -> Tensor:
    """vec(T)[:count], row-major."""
    assert count <= math.prod(tensor.shape), "a fold is never smaller than what it holds"
    return tensor.reshape(-1)[:count]
