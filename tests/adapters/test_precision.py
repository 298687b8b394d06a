"""Half-precision bases and autocast: generated in float32, cast at the addition."""

from __future__ import annotations

import copy

import pytest
import torch

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
    with_deltas,
)

everywhere = pytest.mark.parametrize("network", NETWORKS)
every_setting = pytest.mark.parametrize("setting", SETTINGS)
halves = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


def attached(network, setting="group", dtype=None):
    model = NETWORKS[network]()
    if dtype is not None:
        model = model.to(dtype)
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**fields_for(network, setting)))
    fill(adapter)
    return base, model, adapter


@everywhere
@every_setting
@halves
def test_a_half_precision_base(network, setting, dtype):
    base, model, adapter = attached(network, setting, dtype)
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}
    deltas = adapter.deltas()
    assert all(delta.dtype == torch.float32 for delta in deltas.values())
    inputs = inputs_for(network, dtype)
    result = output(model, inputs)
    expected, untouched = output(with_deltas(base, deltas), inputs), output(base, inputs)
    assert result.dtype == dtype
    assert distance(expected, untouched) > 0.02
    assert distance(result, expected) < 0.1 * distance(expected, untouched)
    # The same addition in the same precision: as near as a reordered sum.
    torch.testing.assert_close(result, expected, rtol=0.02, atol=0.02 * float(expected.detach().abs().max()))
    with adapter.disabled():
        assert torch.equal(output(model, inputs), untouched)
    result.float().pow(2).mean().backward()
    for name, grad in gradients(adapter).items():
        assert grad.dtype == torch.float32 and grad.isfinite().all() and grad.any(), name


@everywhere
@every_setting
@halves
@pytest.mark.parametrize("how", ["to", "method"])
def test_casting_the_attached_model_leaves_the_adapter_alone(network, setting, dtype, how):
    base, model, adapter = attached(network, setting)
    numbers = {name: parameter.detach().clone() for name, parameter in adapter.named_parameters()}
    arrays = {name: buffer.clone() for name, buffer in adapter.named_buffers()}
    deltas = {name: delta.detach().clone() for name, delta in adapter.deltas().items()}
    identities = [id(parameter) for parameter in adapter.parameters()]
    if how == "to":
        model.to(dtype)
    else:
        model.half() if dtype == torch.float16 else model.bfloat16()
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {dtype}
    assert [id(parameter) for parameter in adapter.parameters()] == identities, "optimisers hold these"
    for name, parameter in adapter.named_parameters():
        assert torch.equal(parameter, numbers[name]) and parameter.dtype == torch.float32
    for name, buffer in adapter.named_buffers():
        assert torch.equal(buffer, arrays[name]) and buffer.dtype == arrays[name].dtype
    assert all(torch.equal(delta, deltas[name]) for name, delta in adapter.deltas().items())
    base = base.to(dtype)
    inputs = inputs_for(network, dtype)
    expected, untouched = output(with_deltas(base, deltas), inputs), output(base, inputs)
    assert distance(output(model, inputs), expected) < 0.1 * distance(expected, untouched)


@everywhere
@every_setting
def test_autocast_generates_in_float32(network, setting):
    base, model, adapter = attached(network, setting)
    outside = {name: delta.detach().clone() for name, delta in adapter.deltas().items()}
    inputs = inputs_for(network)
    plain = with_deltas(base, outside)
    with torch.autocast("cpu", torch.bfloat16):
        inside = adapter.deltas()
        result, expected, untouched = (output(net, inputs) for net in (model, plain, base))
    for name, delta in inside.items():
        assert delta.dtype == torch.float32
        assert torch.equal(delta, outside[name]), "not one bit of the generation is in bfloat16"
    assert result.dtype == expected.dtype
    assert distance(expected, untouched) > 0.02
    assert distance(result, expected) < 0.1 * distance(expected, untouched)

    result.float().pow(2).mean().backward()
    autocast_gradients = gradients(adapter)
    adapter.zero_grad()
    output(model, inputs).pow(2).mean().backward()
    for name, grad in gradients(adapter).items():
        assert autocast_gradients[name].dtype == torch.float32
        assert distance(autocast_gradients[name], grad) < 0.2, name


def test_autocast_generates_once_a_forward_too():
    _, model, adapter = attached("unet")
    with torch.autocast("cpu", torch.bfloat16):
        before = adapter.generations
        output(model, inputs_for("unet"))
        assert adapter.generations == before + 1


def test_small_updates_survive_in_float32():
    """Steps of 1e-4 on numbers near 1 vanish in bfloat16 (spacing 1/128); the adapter must keep them."""
    _, _model, adapter = attached("mixed", "lora", torch.bfloat16)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(1.0)
        before = {name: delta.clone() for name, delta in adapter.deltas().items()}
        for parameter in adapter.parameters():
            parameter.add_(1e-4)
    for name, delta in adapter.deltas().items():
        torch.testing.assert_close(delta, before[name] * (1 + 1e-4) ** 2, rtol=1e-6, atol=0)
        assert not torch.equal(delta, before[name])
