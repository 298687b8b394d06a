"""The published counts, exact integers, and counting without making anything."""

from __future__ import annotations

import math

import pytest
from diffusers import UNet2DModel
from safetensors.torch import load_file

from superlora_diffusion import SuperLoRAConfig, attach, count_parameters, find_targets

from . import oracle

EVERY_PROJECTION = ["to_q", "to_k", "to_v", "to_out.0"]
HALF = dict(projection="fastfood", ratio=0.5)
HUNDREDTH = dict(projection="fastfood", ratio=0.01)

PUBLISHED = [
    (dict(variant="lora", rank=8), 75_776),
    (dict(groups=8, order=2, fold="none", rank=13), 70_720),
    (dict(groups=4, order=2, fold="square", side_multiple=32, rank=24), 73_728),
    (dict(groups=1, order=2, fold="square", side_multiple=32, rank=7), 10_752),
    (dict(groups=4, order=2, fold="square", rank=4, **HALF), 8_512),
    (dict(variant="lorta", groups=12, order=3, rank=5), 8_160),
    (dict(variant="lorta", groups=12, order=4, rank=5), 11_100),
    (dict(variant="lonkr", splits=2, split_factor=6, rank=10, groups=2, targets=EVERY_PROJECTION), 5_112),
    (dict(variant="lonkr", splits=2, split_factor=6, rank=2, groups=2, targets=EVERY_PROJECTION), 1_080),
    (dict(variant="lorta", groups=1, order=3, rank=4), 1_060),
    (dict(variant="lorta", groups=4, order=3, rank=4, **HUNDREDTH), 832),
    (dict(variant="lorta", groups=1, order=5, rank=1), 76),
    (dict(variant="lorta", groups=1, order=5, rank=1, **HUNDREDTH), 31),
]


@pytest.fixture(scope="module")
def paper_unet():
    return UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(64, 128, 128, 128),
        down_block_types=("AttnDownBlock2D",) * 4,
        up_block_types=("AttnUpBlock2D",) * 4,
    )


def test_the_paper_unet_has_42_targets(paper_unet):
    targets = find_targets(paper_unet, SuperLoRAConfig())
    assert len(targets) == 42
    assert sum(rows * columns for _, rows, columns in targets) == 565_248
    in_order = [name for name, _ in paper_unet.named_modules() if name.endswith((".to_q", ".to_v"))]
    assert [name for name, _, _ in targets] == in_order


@pytest.mark.parametrize(("fields", "published"), PUBLISHED, ids=[str(number) for _, number in PUBLISHED])
def test_published_count(fields, published, paper_unet, tmp_path):
    config = SuperLoRAConfig(**fields)
    targets = find_targets(paper_unet, config)
    assert count_parameters(config, targets) == published
    assert oracle.count(fields, targets) == published
    adapter = attach(paper_unet, config)
    try:
        assert adapter.num_parameters == published
        assert sum(parameter.numel() for parameter in adapter.parameters()) == published
        adapter.save_pretrained(tmp_path)
        saved = load_file(tmp_path / "adapter_model.safetensors")
        assert sum(tensor.numel() for tensor in saved.values()) == published
    finally:
        adapter.unload()


def count_one(rows, columns, **fields) -> int:
    return count_parameters(SuperLoRAConfig(**fields), [("a.to_q", rows, columns)])


@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("side", [2, 3, 6, 10, 97, 216, 1000, 12_345, 10**6 + 3, 2**31 + 1])
def test_roots_are_exact(order, side):
    """A perfect power's root is its side, one more weight needs the next side, one less does not."""
    fields = dict(order=order, rank=1)
    power = side**order
    assert count_one(1, power, **fields) == order * side
    assert count_one(1, power + 1, **fields) == order * (side + 1)
    assert count_one(1, power - 1, **fields) == order * side
    assert count_one(side, side ** (order - 1), **fields) == order * side


def test_the_kronecker_side_takes_the_root_first():
    """ceil(ceil(sqrt(m)) / f): 10,001 weights have side 101, of which 26 is a quarter, rounded up."""
    config = dict(order=2, splits=2, split_factor=4, rank=1)
    assert count_one(1, 10_001, **config) == 16 + 2 * 26
    assert count_one(1, 10_000, **config) == 16 + 2 * 25
    assert count_one(1, 10_001, **config, side_multiple=8) == 16 + 2 * 32
    assert count_one(1, 10_001, **(config | {"splits": 3})) == 2 * 16 + 2 * 7


@pytest.mark.parametrize("projection", ["fastfood", "fastfood_tanh"])
def test_ratios_are_exact_decimals(projection):
    """0.07 * 100 is 7 numbers, not 8, and so for every hundredth and thousandth."""
    for size in (100, 1000):
        for i in range(1, size + 1):
            ratio = float(f"{i / size:.3f}")
            assert count_one(10, size // 10, order=1, projection=projection, ratio=ratio) == i
    # one more weight needs one more number, unless the ratio is 1
    assert count_one(1, 101, order=1, projection=projection, ratio=0.07) == 8
    assert count_one(1, 10**8, order=1, projection=projection, ratio=3e-7) == 30
    assert count_one(1, 10, order=1, projection=projection, ratio=1e-9) == 1


def test_counting_makes_no_arrays():
    """A trillion weights, projected and not."""
    assert count_one(10**6, 10**6, order=3, rank=2) == 3 * 2 * 10**4
    assert count_one(10**6, 10**6, order=1, projection="fastfood", ratio=1e-9) == 1000
    assert count_one(10**6, 10**6, order=1) == 10**12


def test_groups_share_a_run_length():
    """10 weights in 4 runs of 3, the last generated at 3 and cut."""
    assert count_one(2, 5, order=1, groups=4) == 12
    assert count_one(2, 5, order=1, groups=10) == 10
    assert count_one(2, 5, order=1, groups=1) == 10


def test_variants_count_as_the_twin_does():
    targets = [("a.to_q", 24, 40), ("a.to_v", 24, 40), ("b.to_q", 50, 18), ("b.to_v", 7, 18)]
    for variant in oracle.VARIANTS:
        fields = dict(variant=variant)
        found = count_parameters(SuperLoRAConfig(**fields), targets)
        assert found == oracle.count(fields, targets), variant
        assert math.isfinite(found) and found > 0


def test_targets_may_be_any_triples():
    config = SuperLoRAConfig(variant="lora", rank=2)
    plain = [("a.to_q", 5, 3), ("b.to_v", 4, 9)]
    assert count_parameters(config, plain) == 2 * (5 + 3 + 4 + 9)
    assert count_parameters(config, [list(target) for target in plain]) == 42
