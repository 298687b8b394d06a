"""Merging and unmerging, and several named adapters at once."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.errors import AdapterError

from .networks import (
    NETWORKS,
    SETTINGS,
    distance,
    fields_for,
    fill,
    gradients,
    inputs_for,
    output,
    with_deltas,
)

everywhere = pytest.mark.parametrize("network", NETWORKS)
every_setting = pytest.mark.parametrize("setting", SETTINGS)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)

FIRST, SECOND, THIRD = "lora", "fastfood", "kron"


def attached(network, setting="group", dtype=torch.float32):
    model = NETWORKS[network]().to(dtype)
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**fields_for(network, setting)))
    fill(adapter)
    return base, model, adapter


def three(network="mixed"):
    model = NETWORKS[network]()
    base = copy.deepcopy(model)
    adapters = {}
    for seed, setting in enumerate((FIRST, SECOND, THIRD)):
        fields = fields_for(network, setting)
        if setting == SECOND:
            fields["targets"] = fields["targets"][:1]  # an adapter of its own targets
        adapters[setting] = attach(model, SuperLoRAConfig(**fields), name=setting)
        fill(adapters[setting], seed=seed)
    return base, model, adapters


def close(result, expected):
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def same_state(model, base) -> bool:
    mine, theirs = model.state_dict(), base.state_dict()
    return list(mine) == list(theirs) and all(torch.equal(mine[key], theirs[key]) for key in theirs)


# ---------------------------------------------------------------- one adapter


@everywhere
@every_setting
@dtypes
def test_merge_adds_the_deltas_and_unmerge_restores_every_bit(network, setting, dtype):
    base, model, adapter = attached(network, setting, dtype)
    inputs = inputs_for(network, dtype)
    untouched, live = output(base, inputs), output(model, inputs)
    keys, names = list(model.state_dict()), [name for name, _ in model.named_parameters()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    wanted = with_deltas(base, adapter.deltas())

    adapter.merge()
    assert list(model.state_dict()) == keys
    for key, value in wanted.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value)
    merged = output(model, inputs)
    assert distance(merged, live) < 0.1 * distance(live, untouched)
    assert distance(live, untouched) > 0.01
    if dtype == torch.float32:
        close(merged, live)
    with adapter.disabled():
        assert torch.equal(output(model, inputs), untouched), "disabled is the untouched base, merged or not"
    assert torch.equal(output(model, inputs), merged)

    adapter.unmerge()
    assert same_state(model, base)
    assert [name for name, _ in model.named_parameters()] == names
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert torch.equal(output(model, inputs), live)


@everywhere
def test_merging_twice_adds_once(network):
    base, model, adapter = attached(network)
    inputs = inputs_for(network)
    live = output(model, inputs)
    adapter.merge()
    try:
        adapter.merge()
    except AdapterError as refused:
        assert "merge" in str(refused)
    close(output(model, inputs), live)
    adapter.unmerge()
    assert same_state(model, base)
    try:
        adapter.unmerge()
    except AdapterError as refused:
        assert "merge" in str(refused)
    assert same_state(model, base)


def test_a_new_scale_after_merging_is_not_ignored():
    base, model, adapter = attached("mixed")
    adapter.merge()
    try:
        adapter.set_scale(0.25)
    except AdapterError:
        return
    close(
        output(model, inputs_for("mixed")), output(with_deltas(base, adapter.deltas()), inputs_for("mixed"))
    )
    adapter.unmerge()
    assert same_state(model, base)


@everywhere
@every_setting
def test_unload_while_merged_restores_the_base(network, setting):
    base, model, adapter = attached(network, setting)
    adapter.merge()
    assert not same_state(model, base)
    adapter.unload()
    assert same_state(model, base)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(output(model, inputs_for(network)), output(base, inputs_for(network)))


@everywhere
@every_setting
def test_unload_may_keep_the_merged_weights(network, setting):
    base, model, adapter = attached(network, setting)
    inputs = inputs_for(network)
    live, wanted = output(model, inputs), with_deltas(base, adapter.deltas())
    adapter.merge()
    adapter.unload(keep_merged=True)
    assert list(model.state_dict()) == list(base.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in base.named_parameters()]
    for key, value in wanted.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module is adapter for module in model.modules())
    close(output(model, inputs), live)
    assert distance(live, output(base, inputs)) > 0.01


def test_training_goes_on_after_unmerge():
    _, model, adapter = attached("mixed")
    adapter.merge()
    adapter.unmerge()
    output(model, inputs_for("mixed")).sum().backward()
    assert all(grad.abs().sum() > 0 for grad in gradients(adapter).values())


# ---------------------------------------------------------------- several adapters


@everywhere
def test_several_add_up_with_their_weights(network):
    base, model, adapters = three(network)
    inputs = inputs_for(network)
    close(output(model, inputs), output(with_deltas(base, *(a.deltas() for a in adapters.values())), inputs))
    for adapter, scale in zip(adapters.values(), (0.5, -1.0, 0.0), strict=True):
        adapter.set_scale(scale)
    weighted = output(with_deltas(base, *(a.deltas() for a in adapters.values())), inputs)
    close(output(model, inputs), weighted)
    assert not adapters[THIRD].deltas()[adapters[THIRD].targets[0][0]].any()
    before = {name: adapter.generations for name, adapter in adapters.items()}
    output(model, inputs)
    after = {name: adapter.generations - before[name] for name, adapter in adapters.items()}
    assert after[FIRST] == after[SECOND] == 1 and after[THIRD] <= 1


@everywhere
def test_each_trains_and_is_disabled_on_its_own(network):
    base, model, adapters = three(network)
    inputs = inputs_for(network)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert trained == {id(p) for adapter in adapters.values() for p in adapter.parameters()}
    output(model, inputs).pow(2).mean().backward()
    for adapter in adapters.values():
        assert all(grad.abs().sum() > 0 for grad in gradients(adapter).values())
    with adapters[FIRST].disabled():
        rest = with_deltas(base, adapters[SECOND].deltas(), adapters[THIRD].deltas())
        close(output(model, inputs), output(rest, inputs))
        with adapters[SECOND].disabled(), adapters[THIRD].disabled():
            assert torch.equal(output(model, inputs), output(base, inputs))
    assert list(model.state_dict()) == list(base.state_dict())


@pytest.mark.parametrize("order", [*itertools.permutations((FIRST, SECOND, THIRD))], ids="-".join)
def test_unload_in_any_order(order):
    model = NETWORKS["mixed"]()
    flags = [i % 3 != 0 for i, _ in enumerate(model.parameters())]
    for parameter, flag in zip(model.parameters(), flags, strict=True):
        parameter.requires_grad_(flag)
    base, inputs = copy.deepcopy(model), inputs_for("mixed")
    adapters = {}
    for seed, setting in enumerate((FIRST, SECOND, THIRD)):
        adapters[setting] = attach(model, SuperLoRAConfig(**fields_for("mixed", setting)), name=setting)
        fill(adapters[setting], seed=seed)
    for name in order:
        adapters.pop(name).unload()
        close(
            output(model, inputs), output(with_deltas(base, *(a.deltas() for a in adapters.values())), inputs)
        )
        if adapters:
            trained = {id(p) for p in model.parameters() if p.requires_grad}
            assert trained == {id(p) for adapter in adapters.values() for p in adapter.parameters()}
    assert same_state(model, base)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert torch.equal(output(model, inputs), output(base, inputs))
    assert [type(module) for module in model.modules()] == [type(module) for module in base.modules()]


@pytest.mark.parametrize("merge_order", [*itertools.permutations((FIRST, THIRD))], ids="-".join)
@pytest.mark.parametrize("unmerge_order", [*itertools.permutations((FIRST, THIRD))], ids="-".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_merge_both_and_unmerge_in_any_order(merge_order, unmerge_order, dtype):
    base, model, adapters = three()
    base, model, inputs = base.to(dtype), model.to(dtype), inputs_for("mixed", dtype)
    adapters.pop(SECOND).unload()
    live = output(model, inputs)
    for name in merge_order:
        adapters[name].merge()
    both = with_deltas(base, *(adapter.deltas() for adapter in adapters.values())).state_dict()
    scale = 1e-5 if dtype == torch.float32 else 2e-2
    for key, value in both.items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=scale, atol=scale)
    assert distance(output(model, inputs), live) < 0.1 * distance(live, output(base, inputs))

    first, last = unmerge_order
    adapters[first].unmerge()
    only = with_deltas(base, adapters[last].deltas()).state_dict()
    for key, value in only.items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=scale, atol=scale)
    assert distance(output(model, inputs), live) < 0.1 * distance(live, output(base, inputs))
    adapters[last].unmerge()
    assert same_state(model, base), "every bit is back, whatever the order"


def test_a_merged_one_beside_a_live_one():
    base, model, adapters = three()
    inputs = inputs_for("mixed")
    live = output(model, inputs)
    adapters[FIRST].merge()
    close(output(model, inputs), live)
    output(model, inputs).sum().backward()
    assert all(grad.abs().sum() > 0 for grad in gradients(adapters[THIRD]).values())
    adapters[SECOND].unload()
    rest = with_deltas(base, adapters[FIRST].deltas(), adapters[THIRD].deltas())
    close(output(model, inputs), output(rest, inputs))
    adapters[FIRST].unload()
    close(output(model, inputs), output(with_deltas(base, adapters[THIRD].deltas()), inputs))
    adapters[THIRD].unload()
    assert same_state(model, base)


def test_keep_merged_beside_a_live_one():
    base, model, adapters = three()
    inputs = inputs_for("mixed")
    live, kept = output(model, inputs), adapters[FIRST].deltas()
    adapters[FIRST].merge()
    adapters[FIRST].unload(keep_merged=True)
    close(output(model, inputs), live)
    adapters[THIRD].merge()
    adapters[THIRD].unload()
    adapters[SECOND].unload()
    close(output(model, inputs), output(with_deltas(base, kept), inputs))
    assert list(model.state_dict()) == list(base.state_dict())


def test_copies_of_a_model_with_several():
    base, model, adapters = three()
    inputs = inputs_for("mixed")
    twin = copy.deepcopy(model)
    assert torch.equal(output(twin, inputs), output(model, inputs))
    for adapter in adapters.values():
        adapter.unload()
    assert torch.equal(output(model, inputs), output(base, inputs))
    assert not torch.equal(output(twin, inputs), output(base, inputs))
