"""The gather: the fast map, its readable twin and its transpose against an explicit matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superlora_diffusion.adapters import gather as module
from superlora_diffusion.adapters import permutation
from superlora_diffusion.adapters.gather import draw, gather, pull_back, spread

from .dense import gather_matrix
from .drawn import assert_each_draw_is_its_own, assert_golden
from .spreading import assert_writes, lengths, normal

sizes = pytest.mark.parametrize(
    ("n", "m"), [(1, 1), (7, 1), (12, 4), (13, 4), (100, 37), (99, 98), (64, 64), (500, 3)]
)


@sizes
def test_three_ways_to_spread(n, m):
    arrays, x = draw(n, m, 5, 1), normal(m)
    wanted = gather_matrix(n, m, arrays) @ x.numpy()
    assert np.abs(wanted).min() > 1e-3, "every weight takes a number"
    np.testing.assert_allclose(gather(x, **arrays).numpy(), wanted, atol=1e-12)
    assert_writes(lambda out: spread(x, out, **arrays), wanted)


@sizes
@pytest.mark.parametrize("widened", [1, 30, 2**18])
def test_pull_back_is_the_transpose(n, m, widened, monkeypatch):
    monkeypatch.setattr(module, "_WIDENED", widened)
    arrays = draw(n, m, 5, 1)
    matrix = gather_matrix(n, m, arrays)
    for kept in lengths(n):
        y = normal(kept, seed=kept)
        np.testing.assert_allclose(pull_back(y, m, **arrays).numpy(), matrix[:kept].T @ y.numpy(), atol=1e-12)


@sizes
def test_it_is_an_isometry_times_the_root_of_n_over_m(n, m):
    """So entries keep their variance: for any x the mean square of y is that of x."""
    arrays, x = draw(n, m, 0, 0), normal(m)
    matrix = gather_matrix(n, m, arrays)
    np.testing.assert_allclose(matrix.T @ matrix, n / m * np.eye(m), atol=1e-12)
    y = gather(x, **arrays)
    assert float(y.pow(2).mean()) == pytest.approx(float(x.pow(2).mean()))


@sizes
def test_every_number_is_taken_equally_often_give_or_take_one(n, m):
    indices = draw(n, m, 11, 0)["indices"]
    assert indices.dtype == torch.int32 and indices.shape == (n,)
    counts = torch.bincount(indices, minlength=m)
    assert len(counts) == m and set(counts.tolist()) <= {n // m, -(-n // m)}


def test_with_as_many_numbers_as_weights_it_is_the_shuffle():
    assert torch.equal(draw(60, 60, 3, 1)["indices"], permutation.draw(60, 3, 1)["permutation"])
    x, arrays = normal(60), draw(60, 60, 3, 1)
    assert gather(x, **arrays).sort().values.tolist() == x.sort().values.tolist()


def test_many_small_gradients_in_single_precision_are_not_lost():
    """Added one after the other, 0.1 stops to count properly beside a sum of hundreds of thousands."""
    n = 6_000_000
    found = pull_back(torch.full((n,), 0.1), 2, **draw(n, 2, 0, 0))
    np.testing.assert_allclose(found.numpy(), 0.1 * n / 2, rtol=1e-6)


GOLDEN = [7513821, 1576, 600, 786, 42, 1019]


def test_what_is_drawn():
    assert_golden("gather", (50, 50), 1800, {"indices": GOLDEN})
    assert_each_draw_is_its_own("gather", (1, 2500), 40, "indices")
