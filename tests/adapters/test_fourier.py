"""The Fourier map: the fast map, its readable twin and its transpose against an explicit matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters.fourier import count_cosines, draw, fourier, pull_back, spread

from .dense import fourier_matrix
from .drawn import assert_each_draw_is_its_own, assert_golden
from .networks import fill, tree
from .spreading import assert_writes, lengths, normal

# Even and odd sides, single rows and columns, sides of one and two: all that frequencies with k = -k depend on.
GRIDS = [
    (1, 1),
    (1, 2),
    (2, 1),
    (2, 2),
    (1, 7),
    (1, 12),
    (7, 1),
    (5, 6),
    (6, 5),
    (4, 8),
    (7, 9),
    (2, 9),
    (9, 2),
]
grids = pytest.mark.parametrize("grid", GRIDS, ids=str)


def counts(grid) -> list[int]:
    """One number, few, all cosines, some of the sines, all."""
    n, cosines = math.prod(grid), count_cosines(grid)
    return sorted({1, max(1, n // 4), cosines, (cosines + n + 1) // 2, n})


@grids
def test_three_ways_to_spread(grid):
    for m in counts(grid):
        arrays, x = draw(grid, m, 5, 1), normal(m)
        wanted = fourier_matrix(grid, m, arrays) @ x.numpy()
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(fourier(x, grid, **arrays).numpy(), wanted, atol=1e-12)
        assert_writes(lambda out, x=x, arrays=arrays: spread(x, out, grid, **arrays), wanted)


@grids
def test_pull_back_is_the_transpose(grid):
    for m in counts(grid):
        arrays = draw(grid, m, 5, 1)
        matrix = fourier_matrix(grid, m, arrays)
        for kept in lengths(math.prod(grid)):
            y = normal(kept, seed=kept)
            kept_y = y.clone()
            found = pull_back(y, m, grid, **arrays)
            np.testing.assert_allclose(found.numpy(), matrix[:kept].T @ y.numpy(), atol=1e-12)
            assert torch.equal(y, kept_y), "the gradient that came in is left alone"


@grids
def test_it_is_an_isometry_times_the_root_of_n_over_m(grid):
    """No number is lost and no two are the same, up to as many as weights; entries keep their variance."""
    n = math.prod(grid)
    for m in counts(grid):
        matrix = fourier_matrix(grid, m, draw(grid, m, 0, 0))
        np.testing.assert_allclose(matrix.T @ matrix, n / m * np.eye(m), atol=1e-10)


@grids
def test_each_pair_of_frequencies_has_one_cosine(grid):
    rows, columns = grid
    pairs = {frozenset({k, (-k[0] % rows, -k[1] % columns)}) for k in np.ndindex(grid)}
    assert count_cosines(grid) == len(pairs)
    places = draw(grid, len(pairs), 2, 0)["frequencies"]
    drawn = [divmod(int(place), columns // 2 + 1) for place in places]
    assert {frozenset({k, (-k[0] % rows, -k[1] % columns)}) for k in drawn} == pairs


def test_single_precision_at_a_real_size():
    for grid in ((320, 768), (1, 40_009)):  # a prime length, too
        n = math.prod(grid)
        m = n // 2 + 300
        arrays, x, y = draw(grid, m, 0, 0), normal(m), normal(n, seed=1)
        out, exact = torch.empty(n), torch.empty(n, dtype=torch.float64)
        spread(x.float(), out, grid, **arrays)
        spread(x, exact, grid, **arrays)
        torch.testing.assert_close(out.double(), exact, rtol=0, atol=1e-5)
        assert float(exact.pow(2).mean()) == pytest.approx(float(x.pow(2).mean()))
        back, exact = pull_back(y.float(), m, grid, **arrays), pull_back(y, m, grid, **arrays)
        torch.testing.assert_close(back.double(), exact, rtol=0, atol=2e-5)


GOLDEN = {(50, 50): [4581478, 997, 441, 86, 188, 1048], (1, 2500): [4514639, 362, 288, 786, 986, 434]}


def test_what_is_drawn():
    for grid, golden in GOLDEN.items():
        assert_golden("fourier", grid, 1800, {"frequencies": golden})
    assert_each_draw_is_its_own("fourier", (1, 2500), 40, "frequencies")
    few, many = (draw((30, 41), m, 0, 0)["frequencies"] for m in (40, 1230))
    assert few.dtype == torch.int32 and torch.equal(many[:40], few), "a prefix: more numbers only add"


# ---------------------------------------------------------------- which grid a group has

SPEC = [("a.to_q", (6, 9)), ("a.to_v", (6, 9)), ("b.to_q", (4, 27))]
WHOLE = [(6, 9), (6, 9), (4, 27)]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [("weight", WHOLE), ("shape", [(1, 108), (4, 27)]), ("layer", [(1, 108), (4, 27)]), (2, [(1, 108)] * 2)],
)
def test_a_group_that_is_one_whole_matrix_has_its_shape(groups, expected):
    adapter = attach(tree(SPEC), SuperLoRAConfig(groups=groups, order=1, projection="fourier", ratio=0.3))
    assert [group.grid for group in adapter.plan.groups] == expected


def test_few_numbers_make_even_updates_and_more_do_not():
    """Cosines alone: dW(t) = dW(-t), as every update of FourierFT has it."""
    for ratio, even in ((0.4, True), (0.9, False)):
        adapter = attach(
            tree(SPEC), SuperLoRAConfig(groups="weight", order=1, projection="fourier", ratio=ratio)
        )
        fill(adapter)
        for delta in adapter.deltas().values():
            opposite = delta.flip(0, 1).roll((1, 1), (0, 1))
            assert torch.allclose(delta, opposite, atol=1e-5) == even
            assert delta.std() > 0.1


def test_a_convolutions_kernel_is_a_matrix_of_its_inputs():
    fields = dict(groups="weight", order=1, projection="fourier", ratio=0.5)
    spec = [("to_q", (4, 3, 3, 3))]
    adapter = attach(tree(spec), SuperLoRAConfig(targets=["to_q"], **fields))
    fill(adapter)
    (group,) = adapter.plan.groups
    assert group.grid == (4, 27)
    x, (arrays,) = adapter.g0_vector.detach().double(), adapter.arrays()
    wanted = fourier_matrix((4, 27), group.m, arrays) @ x.numpy()
    delta = adapter.deltas()["to_q"].detach()
    assert delta.shape == (4, 3, 3, 3)
    np.testing.assert_allclose(delta.reshape(-1).numpy(), wanted, atol=1e-5)
