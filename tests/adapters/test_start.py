"""The start: exactly nothing, with a way out at once."""

from __future__ import annotations

import itertools

import pytest
import torch

from superlora_diffusion import SuperLoRAConfig, attach, find_targets

from . import oracle
from .networks import MIXED_TARGETS, inputs_for, mixed_net, output

STARTS = [
    *(dict(variant=variant) for variant in oracle.VARIANTS),
    *(
        dict(fields, core=core, projection=projection)
        for fields, core, projection in itertools.product(
            [
                dict(groups=2, order=2, rank=3),
                dict(groups="layer", order=2, fold="none", rank=20),
                dict(groups="weight", order=4, rank=2),
                dict(groups="shape", order=3, fold="stack", rank=3),
                dict(groups=3, splits=2, split_factor=3, rank=2),
                dict(groups=1, splits=3, split_factor=2, rank=4, factor_all_splits=True),
            ],
            ["identity", "diagonal", "full"],
            ["none", "shuffle", "fastfood", "fastfood_tanh", "gather", "fourier"],
        )
    ),
    *(
        dict(order=1, groups=4, projection=projection)
        for projection in ("shuffle", "fastfood", "fastfood_tanh", "gather", "fourier")
    ),
    *(
        dict(groups=groups, fold="none", rank=3, core=core, projection="singular", directions=5)
        for groups, core in [(1, "identity"), ("weight", "diagonal"), ("layer", "full")]
    ),
    *(dict(variant=variant, step=step) for variant in oracle.VARIANTS for step in ("rms", "gain")),
    dict(
        groups=3, splits=3, split_factor=2, factor_all_splits=True, core="diagonal", step="gain", init_std=0.3
    ),
    dict(core="full", rank=["full", 2], groups=2),
    dict(core="full", rank=["full", "full", "full"], order=3, groups=2),
    dict(variant="lorta", projection="fastfood", ratio=0.1, init_std=0.02),
]


def _id(fields) -> str:
    return ",".join(f"{name}={value}" for name, value in fields.items())


def attached(fields):
    torch.manual_seed(0)
    model = mixed_net()
    fields = {"targets": MIXED_TARGETS, **fields}
    base = output(model, inputs_for("mixed")).detach()
    return model, attach(model, SuperLoRAConfig(**fields)), fields, base


@pytest.mark.parametrize("fields", STARTS, ids=_id)
def test_starts_at_exactly_zero_and_every_tensor_moves_in_three_steps(fields):
    model, adapter, fields, base = attached(fields)
    targets = find_targets(model, adapter.config)
    inputs = inputs_for("mixed")

    assert all(bool((delta == 0).all()) for delta in adapter.deltas().values())
    assert torch.equal(output(model, inputs), base)
    start = {name: parameter.detach().clone() for name, parameter in adapter.named_parameters()}
    zero = {name for name, tensor in start.items() if not tensor.any()}
    assert zero == oracle.zero_tensors(fields, targets)

    # No weight decay: a tensor moves only by its gradient.
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-2, weight_decay=0.0)
    goal = torch.randn(base.shape, generator=torch.Generator().manual_seed(1))
    for step in range(3):
        optimizer.zero_grad()
        (output(model, inputs) - goal).pow(2).mean().backward()
        if step == 0:
            alive = {name for name, p in adapter.named_parameters() if p.grad is not None and p.grad.any()}
            assert alive == zero, "each group's zero tensor, and at first only that, has a gradient"
        optimizer.step()
    for name, parameter in adapter.named_parameters():
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, start[name]), f"{name} has not moved"
    assert any(delta.any() for delta in adapter.deltas().values())


@pytest.mark.parametrize("init_std", [0.02, 3.0])
@pytest.mark.parametrize("core", ["identity", "diagonal", "full"])
def test_init_std_is_the_standard_deviation_of_all_that_is_not_zero(init_std, core):
    fields = dict(
        groups=1, splits=2, split_factor=8, rank=30, core=core, factor_all_splits=False, init_std=init_std
    )
    _, adapter, fields, _ = attached(fields)
    normal = [p.detach().reshape(-1) for name, p in adapter.named_parameters() if p.any()]
    assert len(normal) == (2 if core == "identity" else 3) or core == "full"
    for numbers in normal:
        assert float(numbers.std()) == pytest.approx(init_std, rel=4 / len(numbers) ** 0.5)
        assert abs(float(numbers.mean())) < 5 * init_std / len(numbers) ** 0.5


def test_the_start_follows_the_seeds():
    """Or the config's own: either way, the same seeds make the same start."""
    one, two = attached(dict(variant="lorta"))[1], attached(dict(variant="lorta"))[1]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    torch.manual_seed(1)
    other = attach(mixed_net(), SuperLoRAConfig(variant="lorta", targets=MIXED_TARGETS, seed=1))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_start_is_float32_whatever_the_default():
    torch.set_default_dtype(torch.float64)
    try:
        adapter = attach(mixed_net(), SuperLoRAConfig(variant="lorta", targets=MIXED_TARGETS))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}
