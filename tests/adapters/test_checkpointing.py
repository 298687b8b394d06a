"""Gradient checkpointing of both kinds, by block and whole: gradients equal to without."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.utils.checkpoint import checkpoint

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
)

every_setting = pytest.mark.parametrize("setting", SETTINGS)
both_kinds = pytest.mark.parametrize("kind", ["reentrant", "non-reentrant"])
IMAGE = {"unet": "sample", "mixed": "x", "kinds": "x"}


def attached(network, setting, **options):
    model = NETWORKS[network](**options)
    adapter = attach(model, SuperLoRAConfig(**fields_for(network, setting)))
    fill(adapter)
    return model.train(), adapter


def step(network, model, adapter, call=None, image_requires_grad=False):
    """Output, gradients of the adapter, and of the image if it asks for one."""
    inputs = inputs_for(network)
    image = inputs[IMAGE[network]].requires_grad_(image_requires_grad)
    adapter.zero_grad()
    result = call(inputs) if call else output(model, inputs)
    result.pow(2).mean().backward()
    found = gradients(adapter)
    return result.detach(), found, image.grad


def assert_same(plain, checkpointed):
    torch.testing.assert_close(checkpointed[0], plain[0], rtol=1e-5, atol=1e-6)
    for name, wanted in plain[1].items():
        assert wanted.abs().sum() > 0
        assert distance(checkpointed[1][name], wanted) < 1e-5, name
    if plain[2] is not None:
        assert distance(checkpointed[2], plain[2]) < 1e-5


@every_setting
@both_kinds
@pytest.mark.parametrize("image_requires_grad", [True, False])
def test_diffusers_block_by_block(setting, kind, image_requires_grad):
    model, adapter = attached("unet", setting)
    plain = step("unet", model, adapter, image_requires_grad=image_requires_grad)
    calls = []

    def recorded(function, *args, **options):
        calls.append(function)
        return checkpoint(function, *args, use_reentrant=kind == "reentrant", **options)

    model.enable_gradient_checkpointing(recorded)
    before = adapter.generations
    found = step("unet", model, adapter, image_requires_grad=image_requires_grad)
    assert calls, "the network did checkpoint"
    assert_same(plain, found)
    assert adapter.generations <= before + 1 + len(calls), (
        "once a forward, and at most once a recomputed block"
    )
    assert_same(plain, step("unet", model, adapter, image_requires_grad=image_requires_grad))


@every_setting
def test_diffusers_own_default(setting):
    model, adapter = attached("unet", setting)
    plain = step("unet", model, adapter)
    model.enable_gradient_checkpointing()
    assert_same(plain, step("unet", model, adapter))


@every_setting
@both_kinds
@pytest.mark.parametrize("image_requires_grad", [True, False])
@pytest.mark.parametrize("network", ["mixed", "kinds"])
def test_a_network_that_checkpoints_itself(network, setting, kind, image_requires_grad):
    plain_model, plain_adapter = attached(network, setting)
    model, adapter = attached(network, setting, checkpointing=kind)
    plain = step(network, plain_model, plain_adapter, image_requires_grad=image_requires_grad)
    before = adapter.generations
    output(model, inputs_for(network))
    assert adapter.generations == before + 1
    assert_same(plain, step(network, model, adapter, image_requires_grad=image_requires_grad))


@every_setting
@both_kinds
@pytest.mark.parametrize("network", NETWORKS)
def test_the_whole_model(network, setting, kind):
    model, adapter = attached(network, setting)
    wanted = step(network, model, adapter, image_requires_grad=True)

    def call(inputs):
        inputs = dict(inputs)
        image = inputs.pop(IMAGE[network])
        whole = functools.partial(lambda x, rest: output(model, {IMAGE[network]: x, **rest}), rest=inputs)
        return checkpoint(whole, image, use_reentrant=kind == "reentrant")

    before = adapter.generations
    assert_same(wanted, step(network, model, adapter, call=call, image_requires_grad=True))
    assert adapter.generations == before + 2, "the forward and its recomputation"


@both_kinds
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # the outer run, without
def test_whole_and_blocks_nested(kind):
    plain_model, plain_adapter = attached("mixed", "group")
    model, adapter = attached("mixed", "group", checkpointing=kind)
    wanted = step("mixed", plain_model, plain_adapter, image_requires_grad=True)

    def call(inputs):
        return checkpoint(model, inputs["x"], use_reentrant=kind == "reentrant")

    assert_same(wanted, step("mixed", model, adapter, call=call, image_requires_grad=True))


@both_kinds
def test_two_forwards_before_one_backward(kind):
    """Accumulated losses: each forward's recomputation belongs to its own deltas."""
    plain_model, plain_adapter = attached("mixed", "tucker")
    model, adapter = attached("mixed", "tucker", checkpointing=kind)

    def both(net):
        first, second = inputs_for("mixed", seed=1), inputs_for("mixed", seed=2)
        first["x"].requires_grad_()
        second["x"].requires_grad_()
        return output(net, first).pow(2).mean() + 3 * output(net, second).pow(2).mean()

    both(plain_model).backward()
    both(model).backward()
    wanted = gradients(plain_adapter)
    for name, grad in gradients(adapter).items():
        assert distance(grad, wanted[name]) < 1e-5, name


@both_kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_checkpointing_under_autocast(kind, dtype):
    plain_model, plain_adapter = attached("mixed", "group")
    model, adapter = attached("mixed", "group", checkpointing=kind)
    with torch.autocast("cpu", dtype):
        wanted = step("mixed", plain_model, plain_adapter, image_requires_grad=True)
        found = step("mixed", model, adapter, image_requires_grad=True)
    for name, grad in wanted[1].items():
        assert distance(found[1][name], grad) < 1e-2, name


@both_kinds
def test_accumulating_over_steps(kind):
    """Gradients of two backwards add up, checkpointed or not."""
    model, adapter = attached("mixed", "kron", checkpointing=kind)
    inputs = inputs_for("mixed")
    inputs["x"].requires_grad_()
    output(model, inputs).pow(2).mean().backward()
    once = gradients(adapter)
    output(model, inputs).pow(2).mean().backward()
    for name, grad in gradients(adapter).items():
        torch.testing.assert_close(grad, 2 * once[name], rtol=1e-5, atol=1e-7)
