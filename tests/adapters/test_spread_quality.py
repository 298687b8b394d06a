"""How near the structured maps come to a dense Gaussian matrix of the same size, in numbers.

Columns are brought to length 1 first. Bounds are what was measured over ten seeds (in the comments) plus a margin.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from superlora_diffusion.adapters import block_hadamard, fastfood

from .dense import block_hadamard_matrix, fastfood_matrix

SEEDS = range(3)


def gaussian(n: int, m: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, m)) / math.sqrt(m)


def blocks(n: int, m: int, seed: int) -> np.ndarray:
    return block_hadamard_matrix(n, m, block_hadamard.draw(n, m, seed, 0))


def fastfoods(n: int, m: int, seed: int) -> np.ndarray:
    return fastfood_matrix(n, m, fastfood.draw(n, seed, 0))


def normalised(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.linalg.norm(matrix, axis=0)


def coherences(matrix: np.ndarray) -> np.ndarray:
    """|<f_i, f_j>| of the columns, zeros on the diagonal."""
    columns = normalised(matrix)
    products = np.abs(columns.T @ columns)
    np.fill_diagonal(products, 0)
    return products


def singular_values(matrix: np.ndarray) -> np.ndarray:
    columns = normalised(matrix)
    return np.sqrt(np.linalg.eigvalsh(columns.T @ columns).clip(0))


# (n, m): c 1 and a cut y, c 2 and r 3, c 3 and r 5
SIZES = [(1500, 200), (2500, 1200), (4700, 2100)]
sizes = pytest.mark.parametrize(("n", "m"), SIZES)
kinds = pytest.mark.parametrize("make", [fastfoods, blocks])


@pytest.mark.parametrize(("n", "m"), [(2048, 200), (3072, 1024), (1024, 600)])
def test_one_block_makes_an_exact_isometry(n, m):
    """c 1 and n = r b: the coherence of all columns is 0, of the Gaussian's about 5 / sqrt(n)."""
    matrix = blocks(n, m, 0)
    assert coherences(matrix).max() < 1e-6 < 0.05 < coherences(gaussian(n, m, 0)).max()
    np.testing.assert_allclose(singular_values(matrix), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), math.sqrt(n / m), rtol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(2048, 1500), (4096, 4096)])
def test_so_do_several_where_their_number_is_a_power_of_two(n, m):
    matrix = blocks(n, m, 0)
    np.testing.assert_allclose(singular_values(matrix), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), math.sqrt(n / m), rtol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(1500, 200), (2500, 1200)])
def test_the_coherence_of_fastfood_is_that_of_a_gaussian_matrix(n, m):
    """Measured: 0.9 to 1.5 times the dense Gaussian's. Its diagonal of d Gaussians repeats in every column."""
    for seed in SEEDS:
        assert coherences(fastfoods(n, m, seed)).max() < 2 * coherences(gaussian(n, m, seed)).max()


@sizes
def test_the_coherence_of_block_hadamard_is_below_that_of_a_gaussian_matrix(n, m):
    """All pairs but c (c - 1) / 2. H's first column is a constant, which no permutation moves: the first columns of
    two blocks are as coherent as two rows of the mixing, at most 1 / 3 and 1 / 5 here. They cost nothing else, since
    the spread of singular values is below a Gaussian's with them."""
    for seed in SEEDS:
        matrix = blocks(n, m, seed)
        found = coherences(matrix)
        firsts = np.arange(0, m, 1024)
        between = found[np.ix_(firsts, firsts)].copy()
        found[np.ix_(firsts, firsts)] = 0
        assert found.max() < coherences(gaussian(n, m, seed)).max()
        r = math.ceil(n / 1024)
        assert between.max() < 1.1 / r


@sizes
@kinds
def test_the_variance_of_entries_is_kept(n, m, make):
    """Mean square of F x for random x of mean square 1: the mean of m squares, of n more or less random entries."""
    rng = np.random.default_rng(0)
    ratios = []
    for seed in SEEDS:
        x = rng.normal(size=(m, 20))
        y = make(n, m, seed) @ x
        ratios += list((y**2).mean(0) / (x**2).mean(0))
    # One ratio spreads by sqrt(2 / n) to sqrt(2 / m) about 1; the mean of 60 by 60 ** -0.5 of that.
    assert abs(np.mean(ratios) - 1) < 4 * math.sqrt(2 / m / 60) + 1 / math.sqrt(n)
    assert np.abs(np.array(ratios) - 1).max() < 5 * math.sqrt(2 / m)


@sizes
@kinds
def test_entries_are_distributed_as_gaussians(n, m, make):
    """Kurtosis of all entries, 3 for a Gaussian; measured: 2.98 to 3.01. Signs alone would have 1."""
    for seed in SEEDS:
        entries = make(n, m, seed).reshape(-1)
        entries = entries / entries.std()
        assert abs(entries.mean()) < 0.01
        assert 2.95 < (entries**4).mean() < 3.05
        assert 4 < np.abs(entries).max() < 7
        assert (np.abs(entries) < 1).mean() == pytest.approx(0.683, abs=0.03)


@sizes
def test_singular_values_of_block_hadamard_spread_less_than_a_gaussians(n, m):
    for seed in SEEDS:
        found, dense = singular_values(blocks(n, m, seed)), singular_values(gaussian(n, m, seed))
        assert found[0] > dense[0] and found[-1] < dense[-1]


@pytest.mark.parametrize("seed", range(10))
def test_no_draw_loses_numbers_where_there_are_few_blocks(seed):
    """Two blocks mixed into two: as long as the mixing was of random signs, half of all seeds lost one."""
    values = singular_values(blocks(1500, 1400, seed))
    assert values[0] > 1e-2 * values[-1]


@pytest.mark.parametrize(("n", "m"), [(1500, 200), (2500, 1200)])
def test_singular_values_of_fastfood(n, m):
    """Measured: up to twice as far from 1 as a Gaussian's, since G's entries weigh whole rows; none is lost."""
    for seed in SEEDS:
        found, dense = singular_values(fastfoods(n, m, seed)), singular_values(gaussian(n, m, seed))
        assert found[-1] - 1 < 2.6 * (dense[-1] - 1)
        assert found[0] > 0.2 * dense[0]


def test_the_matrices_are_the_maps():
    """What is measured here is what runs."""
    n, m = 2500, 1200
    x = torch.randn(m, generator=torch.Generator().manual_seed(0))
    drawn = block_hadamard.draw(n, m, 1, 0), fastfood.draw(n, 1, 0)
    maps = block_hadamard.block_hadamard, fastfood.fastfood
    for make, run, arrays in zip((blocks, fastfoods), maps, drawn, strict=True):
        np.testing.assert_allclose(run(x, n, **arrays).numpy(), make(n, m, 1) @ x.double().numpy(), atol=1e-4)
