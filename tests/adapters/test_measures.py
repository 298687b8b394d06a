"""Sizes and nearness of updates, against slow twins that follow the definitions entry by entry."""

from __future__ import annotations

import math

import pytest
import torch

from superlora_diffusion.adapters.measures import (
    as_matrix,
    chance_overlap,
    compare,
    cosine,
    effective_rank,
    leading_directions,
    measure,
    norm_ratio,
    numerical_rank,
    relative_distance,
    subspace_overlap,
)


def matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def of_rank(rows, columns, rank, seed=0):
    return matrix(rows, rank, seed) @ matrix(rank, columns, seed + 100)


def with_values(values, rows, columns, seed=0):
    """A matrix of given singular values between random orthonormal directions."""
    left, _ = torch.linalg.qr(matrix(rows, len(values), seed).double())
    right, _ = torch.linalg.qr(matrix(columns, len(values), seed + 100).double())
    return left @ torch.diag(torch.tensor(values).double()) @ right.T


def slow_norm(tensor) -> float:
    return math.sqrt(sum(float(value) ** 2 for value in tensor.flatten()))


def slow_values(tensor) -> list[float]:
    """Singular values as roots of the eigenvalues of M M^T."""
    flat = tensor.double().flatten(1)
    eigen = torch.linalg.eigvalsh(flat @ flat.T)
    return sorted((math.sqrt(max(0.0, float(value))) for value in eigen), reverse=True)


def slow_effective_rank(tensor) -> float:
    energies = [value**2 for value in slow_values(tensor)]
    shares = [energy / sum(energies) for energy in energies]
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def slow_overlap(one, two) -> float:
    """The sum of squared cosines between all pairs of basis vectors, over the smaller dimension."""
    total = 0.0
    for u in one.T:
        for v in two.T:
            total += float(sum(a * b for a, b in zip(u, v, strict=True))) ** 2
    return total / min(one.shape[1], two.shape[1])


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6), (4, 3, 3, 2), (9,), ()])
def test_the_size_of_an_update(shape):
    delta = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    flat = delta.reshape(shape[0] if shape else 1, -1)
    found = measure(delta)
    assert found.norm == pytest.approx(slow_norm(delta), rel=1e-6)
    assert found.largest == pytest.approx(slow_values(flat)[0], rel=1e-6)
    assert found.effective_rank == pytest.approx(slow_effective_rank(flat), rel=1e-4)
    assert found.rank == min(flat.shape)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_numerical_rank_is_that_of_the_factors(rank):
    found = measure(of_rank(40, 30, rank))
    assert found.rank == rank and 1 <= found.effective_rank <= rank + 1e-6


def test_the_numerical_rank_counts_what_is_above_rounding():
    eps = torch.finfo(torch.float32).eps
    values = torch.tensor([2.0, 2.2 * 30 * eps, 1.8 * 30 * eps, 0.0], dtype=torch.float64)
    assert numerical_rank(values, (4, 30)) == 2 and numerical_rank(values, (40, 30)) == 1
    assert numerical_rank(torch.zeros(3), (3, 3)) == 0


def test_the_effective_rank_by_known_spectra():
    assert effective_rank(torch.ones(7)) == pytest.approx(7)
    assert effective_rank(torch.tensor([5.0, 0.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.tensor([3.0, 3.0, 0.0])) == pytest.approx(2)
    assert effective_rank(torch.zeros(3)) == 0
    # Energies 3 : 1, so that H = ln 4 - 0.75 ln 3; of the values themselves it would be another number.
    expected = 4 / 3**0.75
    assert effective_rank(torch.tensor([math.sqrt(3), 1.0])) == pytest.approx(expected)
    assert effective_rank(10 * torch.tensor([math.sqrt(3), 1.0])) == pytest.approx(expected)


def test_ratios_and_angles_from_numbers():
    assert norm_ratio(3.0, 4.0) == 0.75 and norm_ratio(3.0, 0.0) is None and norm_ratio(0.0, 2.0) == 0.0
    assert relative_distance(6.0, 3.0, 4.0) == 1.5 and relative_distance(6.0, 4.0, 3.0) == 1.5
    assert relative_distance(0.0, 0.0, 0.0) == 0.0
    assert cosine(6.0, 3.0, 4.0) == 0.5 and cosine(-6.0, 3.0, 4.0) == -0.5
    assert cosine(0.0, 0.0, 4.0) is None and cosine(0.0, 3.0, 0.0) is None
    assert cosine(12.0000001, 3.0, 4.0) == 1.0 and cosine(-12.0000001, 3.0, 4.0) == -1.0


def test_the_overlap_of_subspaces():
    one, _ = torch.linalg.qr(matrix(9, 3, 1).double())
    two, _ = torch.linalg.qr(matrix(9, 5, 2).double())
    assert subspace_overlap(one, two) == pytest.approx(slow_overlap(one, two))
    assert subspace_overlap(two, one) == pytest.approx(subspace_overlap(one, two))
    axes = torch.eye(6, dtype=torch.float64)
    assert subspace_overlap(axes[:, :2], axes[:, 2:5]) == 0
    assert subspace_overlap(axes[:, :2], axes[:, 1:5]) == 0.5
    assert subspace_overlap(axes[:, :2], axes[:, :4]) == 1


def test_the_overlap_by_chance_is_the_mean_of_random_subspaces():
    n, i, j = 12, 3, 5
    draws = []
    for seed in range(300):
        one, _ = torch.linalg.qr(matrix(n, i, seed).double())
        two, _ = torch.linalg.qr(matrix(n, j, seed + 1000).double())
        draws.append(subspace_overlap(one, two))
    assert chance_overlap(n, i, j) == chance_overlap(n, j, i) == 5 / 12
    assert sum(draws) / len(draws) == pytest.approx(5 / 12, abs=0.02)


def test_leading_directions_are_those_of_the_largest_values():
    made = with_values([5.0, 3.0, 1.0], 8, 6)
    left, right = leading_directions(made, 2)
    assert left.shape == (8, 2) and right.shape == (6, 2)
    assert torch.allclose(left.T @ made @ right, torch.diag(torch.tensor([5.0, 3.0]).double()), atol=1e-10)
    for sides in (left, right):
        assert torch.allclose(sides.T @ sides, torch.eye(2, dtype=torch.float64), atol=1e-10)
    assert leading_directions(made, 9)[0].shape == (8, 3), "never more than the rank"
    assert leading_directions(with_values([4.0, 4.0, 4.0, 0.5], 8, 6))[0].shape[1] == 3, "the effective rank"


@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 2, 2)])
def test_two_updates_by_the_definitions(shape):
    one, two = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    two = 3 * two + one
    found = compare(one, two)
    a, b = slow_norm(one), slow_norm(two)
    product = sum(float(x) * float(y) for x, y in zip(one.flatten(), two.flatten(), strict=True))
    assert (found.one_norm, found.two_norm) == (pytest.approx(a, rel=1e-6), pytest.approx(b, rel=1e-6))
    assert found.distance == pytest.approx(slow_norm(one - two), rel=1e-6)
    assert found.product == pytest.approx(product, rel=1e-5)
    assert found.relative_distance == pytest.approx(slow_norm(one - two) / max(a, b), rel=1e-6)
    assert found.cosine == pytest.approx(product / (a * b), rel=1e-5)
    lefts, rights = zip(*(leading_directions(as_matrix(update)) for update in (one, two)), strict=True)
    i, j = (update.shape[1] for update in lefts)
    assert (i, j) == found.subspaces.directions == tuple(round(slow_effective_rank(x)) for x in (one, two))
    assert found.subspaces.left == pytest.approx(slow_overlap(*lefts))
    assert found.subspaces.right == pytest.approx(slow_overlap(*rights))
    rows, columns = as_matrix(one).shape
    assert found.subspaces.left_by_chance == max(i, j) / rows
    assert found.subspaces.right_by_chance == max(i, j) / columns


def test_the_same_the_opposite_and_another_update():
    one = of_rank(12, 9, 3)
    same, opposite = compare(one, 2 * one), compare(one, -one)
    assert same.cosine == pytest.approx(1) and same.relative_distance == pytest.approx(0.5)
    assert same.subspaces.left == pytest.approx(1) and same.subspaces.right == pytest.approx(1)
    assert opposite.cosine == pytest.approx(-1) and opposite.relative_distance == pytest.approx(2)
    # Shared columns, other rows: what is written to is one space, what is read from is not.
    left, _ = torch.linalg.qr(matrix(12, 2, 5))
    axes = torch.eye(9)
    found = compare(left @ axes[:2], left @ axes[2:4])
    assert found.subspaces.left == pytest.approx(1, abs=1e-5) and found.subspaces.right == pytest.approx(
        0, abs=1e-5
    )
    assert found.subspaces.directions == (2, 2)
    assert compare(one, one, directions=1).subspaces.directions == (1, 1)


def test_zeros_have_no_directions_and_no_angle():
    nothing, something = torch.zeros(4, 3), matrix(4, 3)
    assert measure(nothing) == (0.0, 0.0, 0.0, 0)
    for one, two in ((nothing, something), (something, nothing)):
        found = compare(one, two)
        assert found.relative_distance == 1.0 and found.cosine is found.subspaces is None
    assert compare(nothing, nothing).relative_distance == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_have_no_size(value):
    damaged = matrix(4, 3)
    damaged[1, 2] = value
    assert measure(damaged) == (None,) * 4
    assert compare(damaged, matrix(4, 3)) == compare(matrix(4, 3), damaged) == (None,) * 7


def test_half_precision_is_measured_in_double():
    delta = (matrix(6, 6) * 300).half()  # the squares overflow fp16
    assert measure(delta).norm == pytest.approx(slow_norm(delta), rel=1e-6)
