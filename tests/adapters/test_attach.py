"""Attaching: what the forward computes, what trains, and that nothing is left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import UNet2DModel

from superlora_diffusion import SuperLoRAConfig, attach

from .networks import (
    NETWORKS,
    SETTINGS,
    distance,
    fields_for,
    fill,
    gradients,
    inputs_for,
    output,
    parameter_named,
    with_deltas,
)

everywhere = pytest.mark.parametrize("network", NETWORKS)
every_setting = pytest.mark.parametrize("setting", SETTINGS)


def attached(network, setting="group", **options):
    model = NETWORKS[network](**options)
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**fields_for(network, setting)))
    fill(adapter)
    return base, model, adapter


@everywhere
@every_setting
def test_forward_and_gradients_are_those_of_a_plain_network_with_the_deltas_added(network, setting):
    base, model, adapter = attached(network, setting)
    inputs = inputs_for(network)
    plain = with_deltas(base, adapter.deltas())
    result, expected = output(model, inputs), output(plain, inputs)
    assert distance(expected, output(base, inputs)) > 0.01
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)

    # The plain network's weight gradients, pulled back through deltas(), are the adapter's.
    result.pow(2).mean().backward()
    output(plain, inputs).pow(2).mean().backward()
    deltas = adapter.deltas()
    pulled = sum((delta * parameter_named(plain, name).grad).sum() for name, delta in deltas.items())
    named = dict(adapter.named_parameters())
    for (name, parameter), wanted in zip(
        named.items(), torch.autograd.grad(pulled, [*named.values()]), strict=True
    ):
        assert wanted.abs().sum() > 0
        assert distance(parameter.grad, wanted) < 1e-3, name


@everywhere
@every_setting
def test_deltas_are_generated_once_a_forward(network, setting):
    _, model, adapter = attached(network, setting)
    inputs = inputs_for(network)
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        for mode in (True, False):
            model.train(mode)
            with context():
                before = adapter.generations
                output(model, inputs)
                assert adapter.generations == before + 1
                output(model, inputs)
                assert adapter.generations == before + 2
    model.train()
    before = adapter.generations
    output(model, inputs).sum().backward()
    assert adapter.generations == before + 1


@everywhere
def test_the_adapter_is_all_that_trains_and_is_reached_once(network):
    base, model, adapter = attached(network)
    reached = [id(parameter) for parameter in model.parameters()]
    assert len(reached) == len(set(reached))
    mine = {id(parameter) for parameter in adapter.parameters()}
    assert mine and mine <= set(reached)
    assert len(reached) == len(list(base.parameters())) + len(mine)
    assert {id(parameter) for parameter in model.parameters() if parameter.requires_grad} == mine
    listed = [
        name for name, parameter in model.named_parameters(remove_duplicate=False) if id(parameter) in mine
    ]
    assert len(listed) == len(mine)
    assert sum(module is adapter for module in model.modules()) == 1
    assert adapter.num_parameters == sum(parameter.numel() for parameter in adapter.parameters())


@everywhere
@every_setting
def test_the_state_dict_is_the_bases(network, setting):
    base, model, adapter = attached(network, setting)
    state, plain = model.state_dict(), base.state_dict()
    assert list(state) == list(plain)
    assert all(torch.equal(state[key], plain[key]) for key in plain)
    base_parameters = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert base_parameters == [name for name, _ in base.named_parameters()]

    other = NETWORKS[network]()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    result = model.load_state_dict(other.state_dict(), strict=True)
    assert not result.missing_keys and not result.unexpected_keys
    inputs = inputs_for(network)
    expected = output(with_deltas(other, adapter.deltas()), inputs)
    torch.testing.assert_close(output(model, inputs), expected, rtol=1e-4, atol=1e-5)
    base.load_state_dict(model.state_dict(), strict=True)


def test_the_models_own_save_pretrained_writes_a_plain_base(tmp_path):
    base, model, _adapter = attached("unet")
    model.save_pretrained(tmp_path)
    loaded = UNet2DModel.from_pretrained(tmp_path)
    assert list(loaded.state_dict()) == list(base.state_dict())
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in base.state_dict().items())
    inputs = inputs_for("unet")
    assert torch.equal(output(loaded.eval(), inputs), output(base, inputs))
    assert not torch.equal(output(model, inputs), output(base, inputs))


@everywhere
@every_setting
def test_frozen_weights_are_bit_identical_after_training(network, setting):
    base, model, adapter = attached(network, setting)
    inputs = inputs_for(network)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1
    )
    before = [parameter.detach().clone() for parameter in adapter.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        output(model, inputs).pow(2).mean().backward()
        optimizer.step()
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)
    for key, value in base.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    moved = zip(adapter.parameters(), before, strict=True)
    assert all(not torch.equal(parameter, start) for parameter, start in moved)


def snapshot(model) -> dict:
    """All that attaching might touch, module by module."""
    return {
        name: (
            type(module),
            set(module.__dict__),
            [key for key, value in module.__dict__.items() if key.endswith("_hooks") and value],
            list(module._parameters),
            list(module._buffers),
            list(module._modules),
            [parameter.requires_grad for parameter in module.parameters()],
        )
        for name, module in model.named_modules()
    }


@everywhere
@every_setting
def test_unload_leaves_nothing(network, setting):
    model = NETWORKS[network]()
    frozen = next(iter(model.parameters()))
    frozen.requires_grad_(False)  # a flag to be kept, not set to True
    before, state, inputs = snapshot(model), copy.deepcopy(model.state_dict()), inputs_for(network)
    base = output(model, inputs)
    adapter = attach(model, SuperLoRAConfig(**fields_for(network, setting)))
    fill(adapter)
    changed = output(model, inputs)
    assert not torch.equal(changed, base)
    changed.sum().backward()
    adapter.unload()
    assert snapshot(model) == before
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert torch.equal(output(model, inputs), base)
    assert not any(module is adapter for module in model.modules())
    attach(model, SuperLoRAConfig(**fields_for(network, setting)))  # the name is free again


@everywhere
@every_setting
def test_disabled_is_the_base_bit_for_bit(network, setting):
    base, model, adapter = attached(network, setting)
    inputs = inputs_for(network)
    expected, changed = output(base, inputs), output(model, inputs)
    with adapter.disabled():
        assert torch.equal(output(model, inputs), expected)
        with adapter.disabled():
            assert torch.equal(output(model, inputs), expected)
        assert torch.equal(output(model, inputs), expected)
    assert torch.equal(output(model, inputs), changed)
    with pytest.raises(KeyError), adapter.disabled():
        raise KeyError("inside")
    assert torch.equal(output(model, inputs), changed)
    assert not torch.equal(changed, expected)


class TestNoStaleDeltas:
    """Values change without a version bump; every forward outside cached() must see them."""

    @pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
    @pytest.mark.parametrize("way", ["data_swap", "data_write", "foreach", "in_place"])
    def test_new_values_are_seen_by_the_next_forward(self, way, mode):
        base, model, adapter = attached("mixed", "fastfood")
        inputs = inputs_for("mixed")
        with mode():
            first = output(model, inputs)
        for parameter in adapter.parameters():
            new = -2 * parameter.detach()
            if way == "data_swap":
                parameter.data = new
            elif way == "data_write":
                parameter.data.copy_(new)
            elif way == "foreach":
                torch._foreach_mul_([parameter.data], -2.0)
            else:
                with torch.no_grad():
                    parameter.copy_(new)
        with mode():
            second = output(model, inputs)
        expected = output(with_deltas(base, adapter.deltas()), inputs)
        torch.testing.assert_close(second, expected, rtol=1e-4, atol=1e-5)
        assert distance(second, first) > 1e-3

    def test_a_broken_forward_leaves_nothing_stale(self):
        base, model, adapter = attached("mixed")
        inputs = inputs_for("mixed")
        with pytest.raises(RuntimeError):
            model(torch.zeros(2, 4, 6, 5))  # four channels: the stem refuses
        handle = model.head.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            output(model, inputs)
        handle.remove()
        fill(adapter, seed=9)
        before = adapter.generations
        expected = output(with_deltas(base, adapter.deltas()), inputs)
        before = adapter.generations
        torch.testing.assert_close(output(model, inputs), expected, rtol=1e-4, atol=1e-5)
        assert adapter.generations == before + 1

    def test_a_part_called_on_its_own_sees_new_values_too(self):
        base, model, adapter = attached("mixed")
        output(model, inputs_for("mixed"))  # a forward that must leave nothing behind
        fill(adapter, seed=7)
        hidden = torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(0))
        expected = with_deltas(base, adapter.deltas()).blocks[1](hidden)
        torch.testing.assert_close(model.blocks[1](hidden), expected, rtol=1e-4, atol=1e-5)
        assert distance(expected, base.blocks[1](hidden)) > 0.01

    @everywhere
    def test_cached_generates_once_for_many_forwards(self, network):
        _, model, adapter = attached(network)
        inputs = inputs_for(network)
        with torch.no_grad():
            expected = output(model, inputs)
            before = adapter.generations
            with adapter.cached():
                for _ in range(4):
                    assert torch.equal(output(model, inputs), expected)
            assert adapter.generations == before + 1
            fill(adapter, seed=3)
            before = adapter.generations
            fresh = output(model, inputs)
            assert adapter.generations == before + 1
            assert not torch.equal(fresh, expected)
            with adapter.cached():
                assert torch.equal(output(model, inputs), fresh), "a second block starts afresh"

    def test_cached_ends_with_its_block_even_by_an_exception(self):
        base, model, adapter = attached("mixed")
        inputs = inputs_for("mixed")
        with torch.no_grad():
            with pytest.raises(KeyError), adapter.cached():
                output(model, inputs)
                raise KeyError("inside")
            fill(adapter, seed=3)
            expected = output(with_deltas(base, adapter.deltas()), inputs)
            torch.testing.assert_close(output(model, inputs), expected, rtol=1e-4, atol=1e-5)

    def test_training_after_a_cached_block_has_gradients(self):
        _, model, adapter = attached("mixed")
        with torch.inference_mode(), adapter.cached():
            output(model, inputs_for("mixed"))
        output(model, inputs_for("mixed")).sum().backward()
        assert all(grad.abs().sum() > 0 for grad in gradients(adapter).values())


class TestScale:
    def test_effective_scale_is_the_products(self):
        base, model, adapter = attached("mixed", "tanh")  # config scale -0.5
        inputs = inputs_for("mixed")
        whole = {name: delta.detach() for name, delta in adapter.deltas().items()}
        adapter.set_scale(3.0)
        for name, delta in adapter.deltas().items():
            torch.testing.assert_close(delta, 3.0 * whole[name])
        expected = output(with_deltas(base, {name: 3.0 * delta for name, delta in whole.items()}), inputs)
        torch.testing.assert_close(output(model, inputs), expected, rtol=1e-4, atol=1e-5)
        adapter.set_scale(0.0)
        torch.testing.assert_close(output(model, inputs), output(base, inputs))
        adapter.set_scale(1.0)
        assert all(torch.equal(delta, whole[name]) for name, delta in adapter.deltas().items())

    def test_set_scale_sets_it_does_not_multiply(self):
        _, _, adapter = attached("mixed")
        adapter.set_scale(0.5)
        half = adapter.deltas()
        adapter.set_scale(0.5)
        assert all(torch.equal(delta, half[name]) for name, delta in adapter.deltas().items())
