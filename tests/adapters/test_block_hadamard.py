"""The block Hadamard spread: the fast map, its readable twin and its transpose against an explicit matrix."""

from __future__ import annotations

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from superlora_diffusion.adapters import block_hadamard as module
from superlora_diffusion.adapters import hadamard
from superlora_diffusion.adapters.arithmetic import ceil_div
from superlora_diffusion.adapters.block_hadamard import block_hadamard, block_side, draw, pull_back, spread
from superlora_diffusion.adapters.checksum import checksum, checksums_agree

from .dense import block_hadamard_matrix
from .spreading import assert_writes, lengths, normal

# (n, m): c and r in the comments, with blocks made small by the fixture below.
SMALL = [
    (1, 1),
    (13, 4),  # one block shorter than 16
    (16, 16),
    (160, 16),  # c 1, r 10
    (160, 7),  # c 1, x filled up with zeros
    (299, 100),  # b 32: c 4, r 10, y cut
    (320, 96),  # c 3, r 10: nothing cut
    (333, 333),  # c 11, r 11
    (500, 30),  # c 1, r 16
]
sizes = pytest.mark.parametrize(("n", "m"), SMALL)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 to 64, so that small sizes have many; b 16 to 32 for these n."""
    monkeypatch.setattr(module, "SMALLEST", 16)
    monkeypatch.setattr(module, "USUAL", 64)


@pytest.fixture(params=["one strip", "strips of 3"])
def strips(request, monkeypatch):
    if request.param != "one strip":
        monkeypatch.setattr(hadamard, "CHUNK", 1)
        monkeypatch.setattr(module, "_FEWEST_COLUMNS", 3)


@sizes
def test_three_ways_to_spread(n, m, small_blocks, strips):
    arrays = draw(n, m, 5, 1)
    x = normal(m)
    wanted = block_hadamard_matrix(n, m, arrays) @ x.numpy()
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(block_hadamard(x, n, **arrays).numpy(), wanted, atol=1e-12)
    assert_writes(lambda out: spread(x, out, **arrays), wanted)


@sizes
def test_pull_back_is_the_transpose(n, m, small_blocks, strips):
    arrays = draw(n, m, 5, 1)
    matrix = block_hadamard_matrix(n, m, arrays)
    x = normal(m)
    for kept in lengths(n):
        y = normal(kept, seed=kept)
        found = pull_back(y, m, **arrays)
        np.testing.assert_allclose(found.numpy(), matrix[:kept].T @ y.numpy(), atol=1e-12)
        spread_out = torch.empty(kept, dtype=torch.float64)
        spread(x, spread_out, **arrays)
        assert float(y @ spread_out) == pytest.approx(float(found @ x), abs=1e-10)


@pytest.mark.parametrize(("n", "m"), [(1500, 40), (2500, 1800), (5000, 2100)])
def test_blocks_of_the_real_size_in_single_precision(n, m):
    """c 1 and r 2, c 2 and r 3, c 3 and r 5."""
    arrays = draw(n, m, 0, 0)
    assert arrays["outer_signs"].shape[0] == 1024
    x, y = normal(m).float(), normal(n, seed=1).float()
    matrix = block_hadamard_matrix(n, m, arrays)
    out = torch.empty(n)
    spread(x, out, **arrays)
    for found in (out, block_hadamard(x, n, **arrays)):
        np.testing.assert_allclose(found.numpy(), matrix @ x.double().numpy(), atol=1e-5)
    back = pull_back(y, m, **arrays)
    np.testing.assert_allclose(back.numpy(), matrix.T @ y.double().numpy(), rtol=1e-4, atol=1e-4)


def test_the_small_cases_are_the_ones_meant(small_blocks):
    def counts(n, m):
        b = block_side(n, m)
        return b, ceil_div(m, b), ceil_div(n, b)

    assert counts(13, 4) == (16, 1, 1)
    assert counts(160, 7) == (16, 1, 10)
    assert counts(299, 100) == (32, 4, 10)
    assert counts(320, 96) == (32, 3, 10)
    assert counts(333, 333) == (32, 11, 11)


# ---------------------------------------------------------------- sizes

LENGTHS = [
    *range(1, 40),
    *(2**bits + extra for bits in range(6, 25) for extra in (-1, 0, 1)),
    3000, 5000, 12_345, 565_248, 10_000_000,
]  # fmt: skip


def test_block_sides():
    for n in LENGTHS:
        for m in {1, max(1, n // 1000), max(1, n // 100), max(1, n // 10), ceil_div(n, 2), n}:
            b = block_side(n, m)
            c, r = ceil_div(m, b), ceil_div(n, b)
            assert b & (b - 1) == 0
            assert c * b >= m and r * b >= n and c <= r, "x fits in, y is filled"
            assert r * b - n < max(1024, n / 8), "little is generated and dropped"
            if n <= 1024:
                assert n <= b < 2 * n and c == r == 1
            else:
                assert b >= 1024
            if n >= 2**20:
                assert c <= 64, "where waste allows it, x has few blocks"


def test_one_block_holds_x_where_that_is_cheap():
    assert block_side(565_248, 4096) == 4096
    assert block_side(565_248, 5652) == 4096, "two blocks: longer ones would leave the cache"
    assert block_side(565_248, 1000) == 1024
    assert block_side(10_000_000, 1_000_000) == 16_384, "64 blocks at the most"


@pytest.mark.parametrize(("n", "m"), [(565_248, 5653), (20_000, 200)])
def test_the_arrays_take_little_memory(n, m):
    arrays = draw(n, m, 0, 0)
    b = block_side(n, m)
    assert sum(array.nbytes for array in arrays.values()) <= (n + b) + 5 * (m + b) + 64 * (n // b + 1)


# ---------------------------------------------------------------- what is drawn


@pytest.mark.parametrize(("n", "m"), [(160, 16), (299, 100)])
def test_what_is_drawn(n, m, small_blocks):
    arrays = draw(n, m, 3, 0)
    b = block_side(n, m)
    c, r = ceil_div(m, b), ceil_div(n, b)
    shapes = {"signs": (c, b), "permutation": (c, b), "outer_signs": (b, r)} | (
        {"mixing": (c, r)} if c > 1 else {}
    )
    assert {name: tuple(array.shape) for name, array in arrays.items()} == shapes
    for name in shapes.keys() - {"permutation"}:
        assert arrays[name].dtype == torch.int8
        assert set(arrays[name].unique().tolist()) == {-1, 1}
    assert (arrays["permutation"].sort(1).values == torch.arange(b)).all()
    assert c == 1 or not torch.equal(arrays["permutation"][0], arrays["permutation"][1])
    others = draw(n, m, 3, 1), draw(n, m, 4, 0)
    for other in others:
        for name in ("signs", "permutation", "outer_signs"):
            assert not torch.equal(arrays[name], other[name]), "each seed and each group has its own"


@pytest.mark.parametrize(
    ("c", "r"), [(2, 2), (2, 3), (3, 3), (3, 4), (5, 9), (8, 8), (8, 13), (12, 12), (35, 69)]
)
def test_no_block_of_numbers_is_lost_in_the_mixing(c, r):
    """Random signs instead would have rank below c in half of all draws at 2 x 2, in 3 % at 4 x 8."""
    mixing = module._hadamard_signs(c, r).double() / r**0.5
    values = torch.linalg.svdvals(mixing)
    assert float(values[-1]) > 0.25, "far from 0"
    if c <= 1 << (r.bit_length() - 1):  # a whole Hadamard matrix is inside, the rest only adds
        assert float(values[-1]) > 0.5**0.5 - 1e-6 and float(values[0]) < 2**0.5 + 1e-6
    if r & (r - 1) == 0:
        torch.testing.assert_close(mixing @ mixing.t(), torch.eye(c, dtype=torch.float64))


FRESH = """
import json, torch
torch.manual_seed(99); torch.randn(17)
from superlora_diffusion.adapters.projection import draw_arrays
arrays = draw_arrays("block_hadamard", (1, 2500), 1800, 7, 2)
print(json.dumps({name: array.tolist() for name, array in arrays.items()}))
"""

# sum of entry * (1 + index % 7) and the first five entries
GOLDEN = {
    "signs": [-20, -1, 1, -1, 1, 1],
    "permutation": [4237076, 414, 799, 943, 879, 444],
    "outer_signs": [101, 1, 1, -1, 1, -1],
    "mixing": [11, 1, 1, 1, 1, -1],
}


def summary(array) -> list[int]:
    values = np.asarray(array).reshape(-1).astype(np.int64)
    return [int((values * (1 + np.arange(len(values)) % 7)).sum()), *values[:5].tolist()]


def test_golden_arrays_in_a_fresh_process_under_another_global_seed():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    fresh = json.loads(done.stdout)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    here = draw(2500, 1800, 7, 2)
    assert torch.equal(torch.get_rng_state(), before), "the global state is left alone"
    assert fresh == {name: array.tolist() for name, array in here.items()}
    assert {name: summary(array) for name, array in fresh.items()} == GOLDEN


# ---------------------------------------------------------------- checksum


def flipped(array, place):
    """One sign turned, or two neighbours of a permutation swapped."""
    changed = array.clone()
    flat = changed.view(-1)
    if changed.dtype == torch.int8:
        flat[place] *= -1
    else:
        flat[place], flat[place - 1] = flat[place - 1].clone(), flat[place].clone()
    return changed


@pytest.mark.parametrize("name", ["signs", "permutation", "outer_signs", "mixing"])
@pytest.mark.parametrize("place", [1, -1])
@pytest.mark.parametrize("group", [0, 1])
def test_every_entry_of_every_array_is_in_the_checksum(name, place, group):
    groups = [draw(2500, 1800, 0, index) for index in range(2)]
    other = [dict(arrays) for arrays in groups]
    other[group][name] = flipped(other[group][name], place)
    assert checksums_agree(checksum(groups), checksum([dict(arrays) for arrays in groups]))
    assert not checksums_agree(checksum(groups), checksum(other))


def test_a_checksum_of_arrays_longer_than_a_chunk(monkeypatch):
    """Cut into pieces or not, the sum is the same, and it reaches the end."""
    groups = [draw(2500, 1800, 0, 0)]
    whole = checksum(groups)
    monkeypatch.setattr("superlora_diffusion.adapters.checksum._CHUNK", 100)
    assert checksum(groups) == whole
    groups[0]["outer_signs"] = flipped(groups[0]["outer_signs"], -1)
    assert checksum(groups) != whole


def test_nothing_drawn_and_something_drawn_differ():
    drawn = checksum([draw(100, 10, 0, 0)])
    assert checksum([{}, {}]) is None
    assert checksums_agree(None, None)
    assert not checksums_agree(None, drawn) and not checksums_agree(drawn, None)


def test_the_order_of_the_groups_matters():
    draws = functools.partial(draw, 100, 10, 0)
    assert not checksums_agree(checksum([draws(0), draws(1)]), checksum([draws(1), draws(0)]))
