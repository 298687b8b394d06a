"""How large an update is, in how many directions it goes, and how near two updates are. Tensors in, numbers out.

An update dW of any weight is read as a matrix (out, in); a convolution's kernel counts as (out, in * kh * kw). All is
computed in fp64. What has no value (a ratio to nothing, an angle with nothing) is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def as_matrix(weight: Tensor) -> Tensor:
    """A weight (out, ...) as an fp64 matrix (out, rest); a vector is one column."""
    return weight.detach().double().reshape(weight.shape[0] if weight.dim() else 1, -1)


def norm_ratio(norm: float, reference: float) -> float | None:
    """||dW||_F / ||W||_F from the two norms; None where W is zero."""
    return norm / reference if reference > 0 else None


def effective_rank(singular_values: Tensor) -> float:
    """exp(H(p)) with p_i = s_i^2 / sum_j s_j^2: over how many directions the energy ||dW||_F^2 is spread.

    Roy and Vetterli (2007) take the entropy of the singular values themselves, s_i / sum_j s_j; their squares are the
    shares of the squared norm, and make less of many small directions.

    Args:
        singular_values: (k,), not negative.

    Returns:
        between 1 (one direction) and the number of values (all alike); 0 if all are zero.
    """
    energy = singular_values.double() ** 2
    total = energy.sum()
    if total == 0:
        return 0.0
    shares = energy / total
    return math.exp(torch.special.entr(shares).sum())


def numerical_rank(singular_values: Tensor, shape: Sequence[int]) -> int:
    """How many singular values are above s_max * max(shape) * eps, eps that of fp32, in which updates are generated.

    Args:
        singular_values: (k,).
        shape: of the matrix.
    """
    largest = singular_values.max()
    tolerance = largest * max(shape) * torch.finfo(torch.float32).eps
    return int((singular_values > tolerance).sum())


def relative_distance(distance: float, one: float, two: float) -> float:
    """||A - B|| / max(||A||, ||B||) from the three norms: 0 for the same, at most 2; 0 where both are zero."""
    larger = max(one, two)
    return distance / larger if larger > 0 else 0.0


def cosine(product: float, one: float, two: float) -> float | None:
    """<A, B> / (||A|| ||B||) from the product and the two norms; None where one is zero."""
    if one == 0 or two == 0:
        return None
    return max(-1.0, min(1.0, product / (one * two)))


def subspace_overlap(one: Tensor, two: Tensor) -> float:
    """phi = ||U^T V||_F^2 / min(i, j): the normalised overlap of two subspaces (Hu et al. 2021, section 7.2, eq. 4).

    Args:
        one: (n, i), orthonormal columns.
        two: (n, j), orthonormal columns.

    Returns:
        between 0 (orthogonal) and 1 (the smaller lies in the larger).
    """
    return float((one.T @ two).square().sum()) / min(one.shape[1], two.shape[1])


def chance_overlap(n: int, i: int, j: int) -> float:
    """E[phi] of two independent uniformly random subspaces of dimensions i and j: (i j / n) / min(i, j)."""
    return max(i, j) / n


class Size(NamedTuple):
    """One update by itself. All is None where it holds a number that is not finite."""

    norm: float | None
    """||dW||_F"""
    largest: float | None
    """The largest singular value, ||dW||_2."""
    effective_rank: float | None
    rank: int | None
    """The numerical rank."""


def measure(delta: Tensor) -> Size:
    """The size of one update (out, ...)."""
    matrix = as_matrix(delta)
    if not matrix.isfinite().all():
        return Size(None, None, None, None)
    values = torch.linalg.svdvals(matrix)
    spread, rank = effective_rank(values), numerical_rank(values, matrix.shape)
    return Size(float(matrix.norm()), float(values.max()), spread, rank)


class Subspaces(NamedTuple):
    """How the leading singular directions of two updates overlap."""

    directions: tuple[int, int]
    """How many of each."""
    left: float
    """phi of the spaces that the updates write to, in R^out."""
    right: float
    """phi of the spaces that they read from, in R^in."""
    left_by_chance: float
    right_by_chance: float


class Closeness(NamedTuple):
    """Two updates of one weight. All is None where one of them holds a number that is not finite."""

    one_norm: float | None
    two_norm: float | None
    distance: float | None
    """||A - B||_F"""
    product: float | None
    """<A, B>, the sum of the products of their entries."""
    relative_distance: float | None
    cosine: float | None
    subspaces: Subspaces | None
    """Also None where one of them is zero and so has no directions."""


def compare(one: Tensor, two: Tensor, directions: int | None = None) -> Closeness:
    """How near two updates of one weight are.

    Args:
        one: (out, ...).
        two: of the same shape.
        directions: how many leading singular directions of each are compared, at most its numerical rank; by default
            its effective rank, rounded.
    """
    a, b = as_matrix(one), as_matrix(two)
    if not (a.isfinite().all() and b.isfinite().all()):
        return Closeness(*[None] * 7)
    norms = float(a.norm()), float(b.norm())
    distance, product = float((a - b).norm()), float((a * b).sum())
    angles = relative_distance(distance, *norms), cosine(product, *norms)
    return Closeness(*norms, distance, product, *angles, _compare_subspaces(a, b, directions))


def _compare_subspaces(a: Tensor, b: Tensor, directions: int | None) -> Subspaces | None:
    if not (a.any() and b.any()):
        return None
    (left_a, right_a), (left_b, right_b) = (leading_directions(matrix, directions) for matrix in (a, b))
    i, j = left_a.shape[1], left_b.shape[1]
    overlaps = subspace_overlap(left_a, left_b), subspace_overlap(right_a, right_b)
    return Subspaces((i, j), *overlaps, *(chance_overlap(side, i, j) for side in a.shape))


def leading_directions(matrix: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
    """The first left (out, k) and right (in, k) singular vectors of a matrix that is not zero.

    Args:
        matrix: (out, in).
        count: how many, at most the numerical rank; by default the effective rank, rounded.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    wanted = round(effective_rank(values)) if count is None else count
    kept = min(wanted, numerical_rank(values, matrix.shape))
    return left[:, :kept], right[:kept].T
