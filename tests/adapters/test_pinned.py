"""Inside ``cached()`` weight + update is kept, and yet changes of the weights and of other adapters are seen."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach

from .networks import distance, fields_for, fill, inputs_for, mixed_net, output, with_deltas

INPUTS = inputs_for("mixed")
SETTINGS = ["group", "lora", "fastfood"]  # units that hold all, that hold a matrix, and a projection


@pytest.fixture(params=SETTINGS)
def attached(request):
    """(base, network, adapter), in a block without gradients."""
    model = mixed_net()
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**fields_for("mixed", request.param)))
    fill(adapter)
    with torch.no_grad():
        yield base, model, adapter


def second(model, setting="lora"):
    other = attach(model, SuperLoRAConfig(**fields_for("mixed", setting)), name="second")
    fill(other, seed=3)
    return other


def assert_is(model, base, *adapters):
    """The network computes what the base with the deltas of the adapters does."""
    expected = output(with_deltas(base, *(adapter.deltas() for adapter in adapters)), INPUTS)
    torch.testing.assert_close(output(model, INPUTS), expected, rtol=1e-4, atol=1e-5)


def changed(base):
    """Another base of the same shape, far enough away to be told apart."""
    other = copy.deepcopy(base)
    for index, parameter in enumerate(other.parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
        parameter.copy_(parameter + 0.3 * noise)
    return other


def test_kept_sums_are_what_runs(attached):
    base, model, adapter = attached
    with adapter.cached():
        before = adapter.generations
        for _ in range(2):
            assert_is(model, base, adapter)
        assert adapter.generations == before + 2, "by deltas() of the comparison only"
        assert adapter._pinned.added
    assert adapter._pinned is None
    fill(adapter, seed=9)
    assert_is(model, base, adapter)


@pytest.mark.parametrize("assign", [False, True])
def test_loading_other_base_weights(attached, assign):
    base, model, adapter = attached
    other = changed(base)
    with adapter.cached():
        old = output(model, INPUTS)
        model.load_state_dict(
            {name: value.clone() for name, value in other.state_dict().items()}, assign=assign
        )
        assert_is(model, other, adapter)
        assert distance(output(model, INPUTS), old) > 0.01
    assert_is(model, other, adapter)


def test_one_weight_written_in_place(attached):
    base, model, adapter = attached
    with adapter.cached():
        output(model, INPUTS)
        for net in (model, base):
            nn.init.constant_(net.blocks[1].to_v.weight, 0.5)
        assert_is(model, base, adapter)


def test_casting_and_casting_back(attached):
    base, model, adapter = attached
    with adapter.cached():
        exact = output(model, INPUTS)
        model.to(torch.bfloat16)
        half = inputs_for("mixed", torch.bfloat16)
        found = output(model, half)
        assert found.dtype == torch.bfloat16
        expected = output(with_deltas(base, adapter.deltas()).to(torch.bfloat16), half)
        plain = output(copy.deepcopy(base).to(torch.bfloat16), half)
        assert distance(found, expected) < 0.2 * distance(plain, expected)
        model.load_state_dict(base.state_dict())
        model.to(torch.float32)
        model.load_state_dict(base.state_dict())
        torch.testing.assert_close(output(model, INPUTS), exact)


@pytest.mark.parametrize("setting", ["lora", "kron"])
def test_another_adapter_comes_and_goes(attached, setting):
    base, model, adapter = attached
    with adapter.cached():
        assert_is(model, base, adapter)
        other = second(model, setting)
        assert_is(model, base, adapter, other)
        with other.disabled():
            assert_is(model, base, adapter)
        assert_is(model, base, adapter, other)
        other.set_scale(-2.0)
        assert_is(model, base, adapter, other)
        other.unload()
        assert_is(model, base, adapter)
    assert_is(model, base, adapter)


@pytest.mark.parametrize("when", ["before", "inside"])
def test_another_adapter_is_merged_and_unmerged(attached, when):
    base, model, adapter = attached
    other = second(model) if when == "before" else None
    with adapter.cached():
        other = other or second(model)
        assert_is(model, base, adapter, other)
        other.merge()
        assert_is(model, base, adapter, other)
        other.set_scale(0.5)
        assert_is(model, base, adapter, other)
        other.unmerge()
        assert_is(model, base, adapter, other)
    assert_is(model, base, adapter, other)


def test_another_adapter_is_merged_before_and_unmerged_inside(attached):
    """Alone beside a merged one, weight + update is kept: of the merged weight, then of the base's again."""
    base, model, adapter = attached
    other = second(model)
    other.merge()
    with adapter.cached():
        assert adapter._pinned.added
        assert_is(model, base, adapter, other)
        with other.disabled():
            assert_is(model, base, adapter)
        assert_is(model, base, adapter, other)
        other.unmerge()
        assert_is(model, base, adapter, other)


def test_the_adapter_itself_is_merged_disabled_and_scaled(attached):
    base, model, adapter = attached
    with adapter.cached():
        adapter.merge()
        assert_is(model, base, adapter)
        adapter.unmerge()
        assert_is(model, base, adapter)
        with adapter.disabled():
            assert torch.equal(output(model, INPUTS), output(base, INPUTS))
        adapter.set_scale(0.3)
        assert_is(model, base, adapter)


def test_two_adapters_are_kept_at_once(attached):
    base, model, adapter = attached
    other = second(model)
    with adapter.cached(), other.cached():
        assert not adapter._pinned.added and not other._pinned.added
        assert_is(model, base, adapter, other)
    with adapter.cached():
        with other.disabled(), adapter.cached():
            assert adapter._pinned.added
            assert_is(model, base, adapter)
        assert_is(model, base, adapter, other)


def test_in_inference_mode():
    """Weights made there carry no version; nothing changes them, and nothing fails."""
    with torch.inference_mode():
        model = mixed_net()
        base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**fields_for("mixed", "lora")))
    fill(adapter)
    with torch.inference_mode(), adapter.cached():
        assert_is(model, base, adapter)
        assert_is(model, base, adapter)
