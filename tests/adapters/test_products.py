"""The products that write a group's numbers, against the readable reference in double precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from superlora_diffusion import SuperLoRAConfig
from superlora_diffusion.adapters import hadamard
from superlora_diffusion.adapters.factoring import tucker
from superlora_diffusion.adapters.generation import generate_group
from superlora_diffusion.adapters.plan import make_plan
from superlora_diffusion.adapters.products import (
    KroneckerProduct,
    MatrixProduct,
    Vector,
    as_product,
    contract,
)

STACKED = [("a.to_q", 5, 7), ("b.to_q", 5, 7), ("c.to_q", 5, 7)]
ONE = [("a.to_q", 13, 11)]

# name: (targets, fields, kind of product)
CASES = {
    "lora": (ONE, dict(groups="weight", fold="none", rank=3), MatrixProduct),
    "lora-diagonal": (ONE, dict(groups="weight", fold="none", rank=3, core="diagonal"), MatrixProduct),
    "lora-full": (ONE, dict(groups="weight", fold="none", rank=[2, 3], core="full"), MatrixProduct),
    "square": (ONE, dict(rank=2, side_multiple=5), MatrixProduct),
    "rank-above-side": (ONE, dict(groups="weight", fold="none", rank=20), MatrixProduct),
    "cp-3": (ONE, dict(order=3, rank=2), MatrixProduct),
    "cp-4-diagonal": (ONE, dict(order=4, rank=3, core="diagonal"), MatrixProduct),
    "cp-5": (ONE, dict(order=5, rank=7), MatrixProduct),
    "tucker-3": (ONE, dict(order=3, rank=[2, 3, 4], core="full"), MatrixProduct),
    "tucker-4": (ONE, dict(order=4, rank=[3, 1, 2, 2], core="full"), MatrixProduct),
    "tucker-5": (ONE, dict(order=5, rank=2, core="full"), MatrixProduct),
    "tucker-only-first": (ONE, dict(order=3, rank=[2, "full", "full"], core="full"), MatrixProduct),
    "tucker-first-and-middle": (ONE, dict(order=3, rank=[2, 3, "full"], core="full"), MatrixProduct),
    "tucker-only-last": (ONE, dict(order=3, rank=["full", "full", 2], core="full"), MatrixProduct),
    "tucker-only-middle": (ONE, dict(order=3, rank=["full", 2, "full"], core="full"), Vector),
    "tucker-core-alone": (ONE, dict(order=3, rank=["full"] * 3, core="full"), Vector),
    "lotr": (STACKED, dict(groups="shape", fold="stack", order=3, core="full", rank=2), MatrixProduct),
    "cp-stack": (STACKED, dict(groups="shape", fold="stack", order=3, rank=2), MatrixProduct),
    "kronecker": (ONE, dict(splits=2, split_factor=3, rank=2), KroneckerProduct),
    "kronecker-crop": (
        ONE,
        dict(groups="weight", fold="none", splits=2, split_factor=3, rank=2),
        KroneckerProduct,
    ),
    "kronecker-3-crop": (
        ONE,
        dict(groups="weight", fold="none", splits=3, split_factor=2, rank=3, core="diagonal"),
        KroneckerProduct,
    ),
    "kronecker-3-factored": (
        ONE,
        dict(splits=3, split_factor=2, rank=2, core="full", factor_all_splits=True),
        KroneckerProduct,
    ),
    "vector": (ONE, dict(groups="weight", order=1), Vector),
}
every_case = pytest.mark.parametrize("case", CASES)


def planned(case):
    """The group's plan and random tensors for it."""
    targets, fields, _ = CASES[case]
    config = SuperLoRAConfig(targets=["to_q"], **fields)
    (group,) = make_plan(config, targets).groups
    generator = torch.Generator().manual_seed(3)
    tensors = {tensor.name: torch.randn(tensor.shape, generator=generator) for tensor in group.tensors}
    return group, tensors


def row_of(product) -> int:
    """How many entries a row of the product has."""
    if isinstance(product, MatrixProduct):
        return product.right.shape[1]
    return product.columns if isinstance(product, KroneckerProduct) else 4


def lengths(group, product) -> list[int]:
    """One entry, a part of a row, ends at and about row borders, and all."""
    row = row_of(product)
    wanted = {1, row - 1, row, row + 1, 3 * row, 3 * row + 2, 5 * row - 1, group.m - 1, group.m}
    return sorted(length for length in wanted if 0 < length <= group.m)


def reference(group, tensors, length, scale):
    """The first entries in double precision, from the readable functions."""
    doubles = {name: tensor.double() for name, tensor in tensors.items()}
    return scale * generate_group(replace(group, n=length, m=length), doubles, {}, "none")[:length]


def assert_near(found, wanted):
    peak = float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=2e-6 * peak)


@pytest.fixture(params=[None, 1, 30], ids=["whole", "row-by-row", "few-rows"])
def chunk(request, monkeypatch):
    if request.param is not None:
        monkeypatch.setattr(hadamard, "CHUNK", request.param)
    return request.param


@every_case
def test_the_kind_of_product_is_the_one_meant(case):
    assert type(as_product(*planned(case))) is CASES[case][2]


@every_case
@pytest.mark.parametrize("scale", [1.0, -2.5])
def test_writes_what_the_reference_makes(case, scale, chunk):
    group, tensors = planned(case)
    product = as_product(group, tensors, scale)
    for length in lengths(group, product):
        around = torch.full((length + 6,), torch.nan)
        product.write(around[3 : 3 + length])
        wanted = reference(group, tensors, length, scale)
        assert float(wanted.abs().max()) > 1e-3
        assert_near(around[3 : 3 + length], wanted)
        assert around[:3].isnan().all() and around[3 + length :].isnan().all(), "not one number beside"


@every_case
@pytest.mark.parametrize("scale", [1.0, -2.5])
def test_gradients_are_those_of_autograd_through_the_reference(case, scale, chunk):
    group, tensors = planned(case)
    for length in lengths(group, as_product(group, tensors)):
        grad = torch.randn(length, generator=torch.Generator().manual_seed(length))
        found = pulled_back(group, tensors, grad, scale)
        wanted = expected_gradients(group, tensors, grad, scale)
        assert any(value.any() for value in wanted.values())
        for name, value in wanted.items():
            assert_near(found[name], value)


def pulled_back(group, tensors, grad, scale):
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    product = as_product(group, leaves, scale)
    fixed = type(product)(*(value.detach() if torch.is_tensor(value) else value for value in product))
    outputs = [value for value in product if torch.is_tensor(value)]
    found = torch.autograd.grad(outputs, list(leaves.values()), fixed.gradients(grad))
    return dict(zip(leaves, found, strict=True))


def expected_gradients(group, tensors, grad, scale):
    leaves = {name: tensor.double().requires_grad_() for name, tensor in tensors.items()}
    vector = reference(group, leaves, len(grad), scale)
    return dict(zip(leaves, torch.autograd.grad(vector, list(leaves.values()), grad.double()), strict=True))


@every_case
def test_a_gradient_that_is_one_number_seen_many_times(case):
    """What ``sum().backward()`` gives: a tensor of stride 0."""
    group, tensors = planned(case)
    length = group.m - 1
    grad = torch.tensor(1.5).expand(length)
    found = pulled_back(group, tensors, grad, 1.0)
    for name, value in expected_gradients(group, tensors, grad, 1.0).items():
        assert_near(found[name], value)


def test_small_chunks_really_cut_the_rows(monkeypatch):
    group, tensors = planned("lora")
    product = as_product(group, tensors)
    assert len(product._row_parts(13)) == 1
    monkeypatch.setattr(hadamard, "CHUNK", 60)  # 30 numbers are two rows of 11
    parts = product._row_parts(13)
    assert [part.stop - part.start for part in parts] == [2] * 6 + [1]
    assert parts[0].start == 0 and parts[-1].stop == 13


def test_the_halves_are_the_smaller_tensors():
    """Order 5 at rank 1: 3 modes to the left, 2 to the right, never the whole tensor."""
    group, tensors = planned("cp-5")
    product = as_product(group, tensors)
    side = group.parts[0].sides[0]
    assert product.left.shape == (side**3, 7) and product.right.shape == (7, side**2)
    assert product.left.is_contiguous() and product.right.is_contiguous()


@pytest.mark.parametrize("missing", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)], ids=str)
def test_contract_is_tucker(missing):
    generator = torch.Generator().manual_seed(1)
    core = torch.randn(2, 3, 4, generator=generator)
    factors = [torch.randn(5 + i, core.shape[i], generator=generator) for i in range(3)]
    factors = [None if i in missing else factor for i, factor in enumerate(factors)]
    torch.testing.assert_close(contract(core, factors), tucker(core, factors), rtol=1e-5, atol=1e-5)
