"""The fixed projection: what is drawn, that nothing else moves it, and what it does to a vector."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from superlora_diffusion import SuperLoRAConfig, attach

from . import oracle
from .networks import tree

SPEC = [("a.to_q", (9, 14)), ("a.to_v", (5, 3)), ("b.to_q", (11, 13))]  # N = 284: 2 runs of 142, d = 256

GOLDEN = """
import json, sys, torch
torch.manual_seed(99); torch.randn(17)
from torch import nn
from superlora_diffusion import SuperLoRAConfig, attach
model = nn.Module()
for name, shape in json.loads(sys.argv[1]):
    parent, last = name.split(".")
    if not hasattr(model, parent):
        model.add_module(parent, nn.Module())
    getattr(model, parent).add_module(last, nn.Linear(shape[1], shape[0]))
adapter = attach(model, SuperLoRAConfig(**json.loads(sys.argv[2])))
print(json.dumps({name: buffer.tolist() for name, buffer in adapter.named_buffers()}))
"""


def attached(spec=SPEC, **fields):
    return attach(tree(spec), SuperLoRAConfig(**fields))


def arrays(adapter, group) -> dict[str, torch.Tensor]:
    stem = f"g{group}_"
    return {name.removeprefix(stem): b for name, b in adapter.named_buffers() if name.startswith(stem)}


@pytest.mark.parametrize("kind", ["shuffle", "fastfood", "fastfood_tanh"])
@pytest.mark.parametrize("seed", [0, 1, 2**40 + 1])
def test_arrays_are_the_recipe(kind, seed):
    """B, P, G in that order from a generator seeded by the hash of (seed, group), drawn here once more."""
    torch.manual_seed(321)
    adapter = attached(groups=2, order=1, projection=kind, seed=seed)
    for group in range(2):
        drawn = oracle.draw(seed, group, 142, kind)
        found = arrays(adapter, group)
        assert found.keys() == drawn.keys()
        for name, array in drawn.items():
            assert torch.equal(found[name].double(), array.double()), name


def test_seeds_and_groups_differ():
    one, two = (attached(groups=2, order=1, projection="fastfood", seed=seed) for seed in (0, 1))
    seen = [arrays(adapter, group) for adapter in (one, two) for group in range(2)]
    for i, first in enumerate(seen):
        for second in seen[i + 1 :]:
            for name in ("signs", "permutation", "gaussian"):
                assert not torch.equal(first[name], second[name])


def test_arrays_are_not_trained_not_stored_in_the_state_and_not_there_without_need():
    adapter = attached(groups=2, order=1, projection="fastfood")
    assert {name for name, _ in adapter.named_parameters()} == {"g0_vector", "g1_vector"}
    assert not any("signs" in name or "gaussian" in name for name in adapter.state_dict())
    assert dict(attached(groups=2, order=1).named_buffers()) == {}


def test_the_draw_leaves_the_global_state_alone():
    """Order 1 starts at zero, so nothing at all may be taken from the global generator."""
    model = tree(SPEC)
    before = torch.get_rng_state()
    attach(model, SuperLoRAConfig(order=1, projection="fastfood"))
    assert torch.equal(torch.get_rng_state(), before)


# sum of entry * (1 + index % 7) for seed 7 and N = 284 in one run, and the first three entries
CHECKSUMS = {
    "shuffle": {"permutation": [164060, 92, 107, 168]},
    "fastfood": {
        "signs": [-175, -1, 1, -1],
        "permutation": [529386, 239, 386, 276],
        "gaussian": [-70.2403243, 0.4751837, 2.0721061, -0.9915575],
    },
}


def checksum(array) -> list[float]:
    values = np.asarray(array, dtype=np.float64)
    return [float((values * (1 + np.arange(len(values)) % 7)).sum()), *values[:3].tolist()]


@pytest.mark.parametrize("kind", CHECKSUMS)
def test_golden_arrays_in_a_fresh_process_under_another_global_seed(kind):
    fields = dict(order=1, projection=kind, seed=7)
    done = subprocess.run(
        [sys.executable, "-c", GOLDEN, json.dumps(SPEC), json.dumps(fields)],
        capture_output=True,
        text=True,
        check=True,
    )
    fresh = json.loads(done.stdout)
    torch.manual_seed(5)
    here = {name: buffer.tolist() for name, buffer in attached(**fields).named_buffers()}
    assert fresh == here
    for name, golden in CHECKSUMS[kind].items():
        assert checksum(fresh[f"g0_{name}"]) == pytest.approx(golden, rel=1e-5), name


# ---------------------------------------------------------------- what it does to a vector


def spread(
    size: int, ratio: float, kind: str, numbers=None, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    adapter = attached(
        [("a.to_q", (1, size))], targets=["to_q"], order=1, projection=kind, ratio=ratio, seed=seed
    )
    with torch.no_grad():
        if numbers is not None:
            adapter.g0_vector.copy_(numbers)
        else:
            adapter.g0_vector.copy_(
                torch.randn(adapter.g0_vector.shape, generator=torch.Generator().manual_seed(seed))
            )
    return adapter.g0_vector.detach(), adapter.deltas()["a.to_q"].detach().reshape(-1)


@pytest.mark.parametrize(
    ("size", "ratio"), [(4096, 1.0), (4096, 0.25), (5000, 0.5), (5000, 0.01), (70_000, 0.1)]
)
def test_entries_keep_their_variance(size, ratio):
    x, y = spread(size, ratio, "fastfood")
    # A chi-squared mean over len(x) numbers, times that of the Gaussian's own kurtosis.
    assert float(y.pow(2).mean() / x.pow(2).mean()) == pytest.approx(1, abs=8 / math.sqrt(len(x)))
    assert abs(float(y.mean())) < 8 / math.sqrt(size)
    assert len(y.unique()) > 0.9 * size


def test_a_long_vector_keeps_its_variance_closely():
    x, y = spread(2**16, 1.0, "fastfood")
    assert float(y.pow(2).mean() / x.pow(2).mean()) == pytest.approx(1, abs=0.03)


def test_one_number_reaches_every_weight():
    """A sparse x is spread over all of y, evenly."""
    numbers = torch.zeros(50)
    numbers[3] = 1.0
    _, y = spread(5000, 0.01, "fastfood", numbers)
    assert (y.abs() > 1e-4).float().mean() > 0.99


@pytest.mark.parametrize("size", [1, 2, 3, 4, 17, 64, 65, 128, 1000, 1024, 1500])
@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_every_length_equals_the_explicit_matrix(size, ratio):
    """Each power of two, and one above and below: every radix the transform may split into."""
    x, y = spread(size, ratio, "fastfood", seed=3)
    matrix = oracle.projection_matrix("fastfood", 3, 0, len(x), (1, size))
    expected = matrix @ x.double().numpy()
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_the_transform_at_full_size_is_orthogonal():
    """Too long for a matrix: <F x, F z> of two unit vectors, and F's own linearity, at d = 2**18."""
    size, ratio = 200_000, 0.01
    adapter = attached([("a.to_q", (1, size))], targets=["to_q"], order=1, projection="fastfood", ratio=ratio)

    def apply(x):
        with torch.no_grad():
            adapter.g0_vector.copy_(x)
        return adapter.deltas()["a.to_q"].detach().double().reshape(-1)

    generator = torch.Generator().manual_seed(0)
    x, z = torch.randn(2, 2000, generator=generator)
    fx, fz = apply(x), apply(z)
    both = apply(2 * x - 3 * z)
    torch.testing.assert_close(both, 2 * fx - 3 * fz, rtol=1e-4, atol=1e-4)
    assert float(fx.norm() / fz.norm()) == pytest.approx(float(x.norm() / z.norm()), rel=0.05)
    cosine = float(fx @ fz / fx.norm() / fz.norm())
    assert cosine == pytest.approx(float(torch.nn.functional.cosine_similarity(x, z, dim=0)), abs=0.02)


def test_tanh_is_taken_of_the_spread_numbers():
    numbers = torch.randn(500, generator=torch.Generator().manual_seed(1))
    _, plain = spread(1000, 0.5, "fastfood", numbers)
    _, squashed = spread(1000, 0.5, "fastfood_tanh", numbers)
    torch.testing.assert_close(squashed, torch.tanh(plain))
    assert float((plain - squashed).abs().max()) > 0.5


def test_shuffle_permutes():
    numbers = torch.arange(60.0)
    _, y = spread(60, 1.0, "shuffle", numbers)
    assert y.sort().values.tolist() == numbers.tolist()
    assert y.tolist() != numbers.tolist()
