"""A bank of adapters: what it computes, however it was switched to."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from superlora_diffusion import AdapterBank, SuperLoRAConfig, attach, load_adapter
from superlora_diffusion.adapters.host import host_of

from .banks import Banked
from .networks import NETWORKS, SETTINGS, distance, fields_for, fill, inputs_for, output, with_deltas

everywhere = pytest.mark.parametrize("network", NETWORKS)
SWITCHES = ("cats", "dogs", {"cats": 0.7, "birds": -0.5}, None, "fish", {"dogs": 1.0, "cats": 2.0}, "cats")


def close(result, expected, **tolerance):
    torch.testing.assert_close(result, expected, **{"rtol": 1e-4, "atol": 1e-5, **tolerance})


def four(folder, network="mixed", dtype=None) -> Banked:
    """Two that differ in numbers alone, one of other settings, one of other targets too."""
    made = Banked(folder, network, dtype)
    made.add("cats", "fastfood", seed=1)
    made.add("dogs", "fastfood", seed=2, scale=1.5)
    made.add("birds", "lora", seed=3)
    made.add("fish", "tanh", seed=4, fields={"targets": fields_for(network, "tanh")["targets"][:1]})
    return made


def weights_of(choice) -> dict[str, float]:
    return {} if choice is None else {choice: 1.0} if isinstance(choice, str) else choice


@everywhere
@pytest.mark.parametrize("setting", SETTINGS)
def test_one_alone_is_the_loaded_adapter_to_the_last_bit(network, setting, tmp_path):
    made = Banked(tmp_path, network)
    folder = made.add("it", setting, scale=0.3)
    loaded, inputs = copy.deepcopy(made.base), inputs_for(network)
    load_adapter(loaded, folder)
    assert torch.equal(output(made.model, inputs), output(made.base, inputs)), "adding attaches nothing"
    made.bank.use("it")
    with torch.no_grad():  # torch takes other kernels where a gradient is needed
        assert torch.equal(output(made.model, inputs), output(loaded, inputs))
    assert distance(output(made.model, inputs), output(made.base, inputs)) > 0.01


@everywhere
def test_a_mix_is_the_base_with_weighted_updates_added(network, tmp_path):
    made, inputs = four(tmp_path, network), inputs_for(network)
    for choice in SWITCHES:
        made.bank.use(choice)
        weights = weights_of(choice)
        assert made.bank.active == weights
        close(*made.outputs(weights, inputs))
        assert made.bank.num_parameters == sum(made.bank._entries[name].numbers.numel() for name in weights)
    seen = [output(made.wanted(weights_of(choice)), inputs) for choice in SWITCHES[:-1]]
    assert all(distance(a, b) > 1e-3 for a, b in itertools.combinations(seen, 2)), "or the test sees nothing"


def test_three_of_one_kind_take_three_slots_with_one_set_of_arrays(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    made.add("frogs", "fastfood", seed=5)
    weights = {"cats": 0.5, "dogs": 0.25, "frogs": -1.0}
    made.bank.use(weights)
    close(*made.outputs(weights, inputs))
    slots = list(host_of(made.model).adapters.values())
    assert (
        len(slots) == 3 and len({id(slot.plan) for slot in slots}) == len({id(s.units) for s in slots}) == 1
    )
    arrays = [sorted(value.data_ptr() for value in slot.buffers()) for slot in slots]
    assert arrays[0] and arrays[0] == arrays[1] == arrays[2]
    assert len({parameter.data_ptr() for slot in slots for parameter in slot.parameters()}) == 3 * len(
        list(slots[0].parameters())
    )


def test_to_switch_within_a_kind_is_to_copy_numbers(tmp_path):
    made = four(tmp_path)
    made.bank.use("cats")
    (slot,) = host_of(made.model).adapters.values()
    before = {name: (value, value.data_ptr()) for name, value in slot.named_parameters()}
    hooks = list(made.model._forward_hooks)
    made.bank.use("dogs")
    assert list(host_of(made.model).adapters.values()) == [slot] and list(made.model._forward_hooks) == hooks
    for name, value in slot.named_parameters():
        assert value is before[name][0] and value.data_ptr() == before[name][1]


@pytest.mark.parametrize("order", [*itertools.permutations(("cats", "dogs", "fish"))], ids="-".join)
def test_the_order_matters_to_rounding_alone(order, tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    weights = {"cats": 0.7, "dogs": -0.2, "fish": 1.5}
    made.bank.use({"fish": 1.0, "birds": 1.0})
    made.bank.use({name: weights[name] for name in order})
    close(*made.outputs(weights, inputs))


def test_the_same_settings_are_one_kind_whatever_they_started_from(tmp_path):
    made, inputs = Banked(tmp_path), inputs_for("mixed")
    made.add("a", "lora", seed=1)
    made.add("b", "lora", seed=2, fields={"init_std": 0.5})
    config = SuperLoRAConfig(**fields_for("mixed", "lora")).model_dump()
    made.add("c", "lora", seed=3, fields={**config, "variant": None, "scale": -2.0, "seed": 7})
    made.add("d", "lora", seed=4, fields={"rank": 4})
    assert len(made.bank._pool._kinds) == 2
    for name in "abcd":
        made.bank.use(name)
        close(*made.outputs({name: 1.0}, inputs))


def test_projections_of_other_seeds_are_kinds_of_their_own(tmp_path):
    made, inputs = Banked(tmp_path), inputs_for("mixed")
    made.add("a", "fastfood")
    made.add("b", "fastfood", fields={"seed": 9})
    weights = {"a": 1.0, "b": 0.5}
    made.bank.use(weights)
    close(*made.outputs(weights, inputs))
    assert len(made.bank._pool._kinds) == 2


def test_weight_zero_takes_no_part(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    made.bank.use("cats")
    alone = output(made.model, inputs)
    made.bank.use({"birds": 0, "cats": 1, "dogs": 0.0})
    assert torch.equal(output(made.model, inputs), alone)
    assert made.bank.active == {"birds": 0.0, "cats": 1.0, "dogs": 0.0}
    made.bank.use({"cats": 0})
    assert host_of(made.model) is None
    assert torch.equal(output(made.model, inputs), output(made.base, inputs))


@everywhere
def test_none_is_the_base_bit_for_bit(network, tmp_path):
    made, inputs = four(tmp_path, network), inputs_for(network)
    flags = [index % 3 != 0 for index, _ in enumerate(made.model.parameters())]
    for model in (made.model, made.base):
        for parameter, flag in zip(model.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)
    made.bank.use({"cats": 0.7, "birds": 0.3, "fish": 1.0})
    assert not any(parameter.requires_grad for parameter in made.model.parameters()), "nothing trains"
    made.bank.use(None)
    assert torch.equal(output(made.model, inputs), output(made.base, inputs))
    assert [type(module) for module in made.model.modules()] == [type(m) for m in made.base.modules()]
    assert [parameter.requires_grad for parameter in made.model.parameters()] == flags
    same = zip(made.model.named_parameters(), made.base.named_parameters(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in same)
    assert not made.model._forward_hooks and not made.model._forward_pre_hooks and host_of(made.model) is None


def test_a_call_in_training_needs_no_gradient(tmp_path):
    made = four(tmp_path)
    made.bank.use({"cats": 1.0, "birds": 1.0})
    assert not output(made.model, inputs_for("mixed")).requires_grad


def test_using_returns_to_what_was_also_after_an_error(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    made.bank.use({"cats": 0.5})
    with pytest.raises(ZeroDivisionError), made.bank.using({"dogs": 2.0, "fish": 1.0}):
        close(*made.outputs({"dogs": 2.0, "fish": 1.0}, inputs))
        with made.bank.disabled():
            assert torch.equal(output(made.model, inputs), output(made.base, inputs))
        close(*made.outputs({"dogs": 2.0, "fish": 1.0}, inputs))
        raise ZeroDivisionError
    assert made.bank.active == {"cats": 0.5}
    close(*made.outputs({"cats": 0.5}, inputs))


def test_the_scale_is_a_factor_on_all_now_and_later(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    made.bank.use({"cats": 1.0, "birds": 0.5})
    made.bank.set_scale(0.5)
    close(*made.outputs({"cats": 0.5, "birds": 0.25}, inputs))
    made.bank.use("fish")
    close(*made.outputs({"fish": 0.5}, inputs))
    assert made.bank.active == {"fish": 1.0} and made.bank.scale == 0.5
    made.bank.set_scale(0)
    assert host_of(made.model) is None
    assert torch.equal(output(made.model, inputs), output(made.base, inputs))
    made.bank.set_scale(1)
    close(*made.outputs({"fish": 1.0}, inputs))


def test_its_deltas_are_the_weighted_sum(tmp_path):
    made = four(tmp_path)
    made.bank.use({"cats": 0.7, "fish": -2.0})
    found = made.bank.deltas()
    assert found.keys() == made.deltas["cats"].keys() | made.deltas["fish"].keys()
    for name, delta in found.items():
        wanted = 0.7 * made.deltas["cats"][name] - 2.0 * made.deltas["fish"].get(name, torch.zeros(()))
        close(delta, wanted)
    made.bank.use(None)
    assert made.bank.deltas() == {}


def test_kept_updates_are_dropped_by_a_switch_and_generated_once_after_it(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    made.bank.use("cats")
    with made.bank.cached():
        for choice in (
            "cats",
            "dogs",
            {"dogs": 0.5, "cats": 0.5},
            {"dogs": 0.25, "fish": 1.0},
            None,
            "birds",
        ):
            made.bank.use(choice)
            slots = list(made.model.superlora_host.adapters.values()) if choice else []
            before = [slot.generations for slot in slots]
            for _ in range(3):
                close(*made.outputs(weights_of(choice), inputs))
            assert [slot.generations for slot in slots] == before, "generated by the switch"
        made.bank.set_scale(2.0)
        close(*made.outputs({"birds": 2.0}, inputs))
        with made.bank.cached():
            made.bank.use("cats")
        close(*made.outputs({"cats": 2.0}, inputs))
    (slot,) = host_of(made.model).adapters.values()
    before = slot.generations
    close(*made.outputs({"cats": 2.0}, inputs))
    assert slot.generations == before + 1, "outside the block every call generates anew"


def test_a_switch_within_cached_generates_once(tmp_path):
    made = four(tmp_path)
    with made.bank.cached():
        made.bank.use("cats")
        (slot,) = host_of(made.model).adapters.values()
        for name in ("dogs", "cats"):
            before = slot.generations
            made.bank.use(name)
            assert slot.generations == before + 1


def test_what_a_slots_own_cached_kept_is_dropped_too(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    made.bank.use("cats")
    (slot,) = host_of(made.model).adapters.values()
    with slot.cached():
        close(*made.outputs({"cats": 1.0}, inputs))
        made.bank.use("dogs")
        close(*made.outputs({"dogs": 1.0}, inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_merged_bank_stays_merged_and_unmerges_exactly(dtype, tmp_path):
    made, inputs = four(tmp_path, dtype=dtype), inputs_for("mixed", dtype)
    tolerance = {} if dtype == torch.float32 else {"rtol": 0.03, "atol": 0.03}
    made.bank.use("cats")
    made.bank.merge()
    for choice in SWITCHES:
        made.bank.use(choice)
        wanted = made.wanted(weights_of(choice))
        for name, weight in wanted.state_dict().items():
            close(made.model.state_dict()[name], weight, **tolerance)
        close(output(made.model, inputs), output(wanted, inputs), **tolerance)
    assert made.bank.is_merged
    made.bank.unmerge()
    pairs = zip(made.model.state_dict().values(), made.base.state_dict().values(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)
    close(*made.outputs({"cats": 1.0}, inputs), **tolerance)
    made.bank.merge()
    made.bank.use(None)
    pairs = zip(made.model.state_dict().values(), made.base.state_dict().values(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs), "also by a switch to the base"


def test_merging_within_cached(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    made.bank.use({"cats": 1.0, "fish": 1.0})
    with made.bank.cached():
        made.bank.merge()
        assert all(slot._pinned is None for slot in made.bank._attached), "nothing is kept beside the weights"
        close(*made.outputs({"cats": 1.0, "fish": 1.0}, inputs))
        made.bank.use("dogs")
        made.bank.unmerge()
        close(*made.outputs({"dogs": 1.0}, inputs))


def test_a_slot_merged_by_somebody_else_follows_a_switch(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    made.bank.use("cats")
    (slot,) = host_of(made.model).adapters.values()
    slot.merge()
    made.bank.use("dogs")
    close(*made.outputs({"dogs": 1.0}, inputs))
    made.bank.use(None)
    assert torch.equal(output(made.model, inputs), output(made.base, inputs))


def test_unload_leaves_the_base_or_the_merged_weights(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    weights = {"cats": 0.5, "birds": 1.0}
    made.bank.use(weights)
    assert made.bank.unload() is made.model
    assert torch.equal(output(made.model, inputs), output(made.base, inputs))
    made.bank.use(weights)
    made.bank.merge()
    made.bank.unload(keep_merged=True)
    close(*made.outputs(weights, inputs))
    assert host_of(made.model) is None and made.bank.active == {} and not made.bank.is_merged


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_networks(dtype, tmp_path):
    made, inputs = four(tmp_path, dtype=dtype), inputs_for("mixed", dtype)
    for choice in SWITCHES:
        made.bank.use(choice)
        close(*made.outputs(weights_of(choice), inputs), rtol=0.03, atol=0.03)
        assert all(p.dtype == torch.float32 for slot in made.bank._attached for p in slot.parameters())
    made.bank.use(None)
    assert torch.equal(output(made.model, inputs), output(made.base, inputs))


def test_a_network_that_is_cast_with_idle_slots(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed", torch.bfloat16)
    made.bank.use({"cats": 1.0, "birds": 1.0})
    made.bank.use("birds")
    made.model.to(torch.bfloat16)
    made.base.to(torch.bfloat16)
    made.bank.use({"cats": 1.0, "dogs": 1.0})
    close(*made.outputs({"cats": 1.0, "dogs": 1.0}, inputs), rtol=0.03, atol=0.03)


def test_slots_follow_the_network_to_another_device_with_one_set_of_arrays(tmp_path):
    made = four(tmp_path)
    made.bank.use({"cats": 1.0, "dogs": 1.0})
    made.bank.use("dogs")  # one of the two is idle while the network moves
    made.model.to("meta")
    made.bank.use({"cats": 1.0, "dogs": 1.0})
    one, two = host_of(made.model).adapters.values()
    assert {
        tensor.device.type for slot in (one, two) for tensor in (*slot.parameters(), *slot.buffers())
    } == {"meta"}
    assert all(a is b for a, b in zip(one.buffers(), two.buffers(), strict=True))


def test_inference_mode_leaves_nothing_that_cannot_be_changed_later(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    with torch.inference_mode():
        made.bank.use({"cats": 1.0, "dogs": 1.0})
        output(made.model, inputs)
    made.bank.use({"dogs": 0.5, "cats": 1.0})
    close(*made.outputs({"dogs": 0.5, "cats": 1.0}, inputs))


def test_beside_an_adapter_of_ones_own_and_another_bank(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    own = attach(made.model, SuperLoRAConfig(**fields_for("mixed", "kron")), name="own")
    fill(own, seed=8)
    second = AdapterBank(made.model)
    second.add("cats", tmp_path / "cats")
    second.use({"cats": 3.0})
    made.bank.use({"birds": 1.0})
    wanted = with_deltas(made.wanted({"cats": 3.0, "birds": 1.0}), own.deltas())
    close(output(made.model, inputs), output(wanted, inputs))
    assert {p for p in made.model.parameters() if p.requires_grad} == set(own.parameters())
    made.bank.use(None)
    second.use(None)
    close(output(made.model, inputs), output(with_deltas(made.base, own.deltas()), inputs))


def test_a_copy_of_the_network_keeps_what_was_in_use(tmp_path):
    made, inputs = four(tmp_path), inputs_for("mixed")
    made.bank.use({"cats": 1.0, "dogs": 0.5})
    twin = copy.deepcopy(made.model)
    made.bank.use("fish")
    close(output(twin, inputs), output(made.wanted({"cats": 1.0, "dogs": 0.5}), inputs))
