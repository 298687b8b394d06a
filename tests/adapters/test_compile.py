"""torch.compile without graph breaks, forward and backward."""

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
)

# Dynamo asks each tensor it meets for its gradient, also those that cannot have one.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def attached(network, setting):
    model = NETWORKS[network]()
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**fields_for(network, setting)))
    fill(adapter)
    return base, model, adapter


def compiled_step(model, adapter, inputs):
    adapter.zero_grad()
    result = output(model, inputs)
    result.pow(2).mean().backward()
    return result.detach(), gradients(adapter)


CASES = [*(("mixed", setting) for setting in SETTINGS), ("unet", "group"), ("kinds", "group")]


@pytest.mark.parametrize(("network", "setting"), CASES)
def test_a_full_graph_with_equal_output_and_gradients(network, setting):
    base, model, adapter = attached(network, setting)
    inputs = inputs_for(network)
    wanted, wanted_gradients = compiled_step(model, adapter, inputs)
    assert distance(wanted, output(base, inputs)) > 0.01
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found, found_gradients = compiled_step(compiled, adapter, inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for name, grad in wanted_gradients.items():
        assert distance(found_gradients[name], grad) < 1e-4, name

    # New numbers are seen without compiling again.
    fill(adapter, seed=6)
    with torch.compiler.set_stance("fail_on_recompile"):
        found, _ = compiled_step(compiled, adapter, inputs)
    wanted, _ = compiled_step(model, adapter, inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_no_grad_disabled_scaled_and_merged_are_seen_by_a_compiled_model():
    base, model, adapter = attached("mixed", "group")
    inputs = inputs_for("mixed")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        plain, changed = output(base, inputs), output(model, inputs)
        torch.testing.assert_close(output(compiled, inputs), changed, rtol=1e-4, atol=1e-5)
        with adapter.disabled():
            torch.testing.assert_close(output(compiled, inputs), plain, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(output(compiled, inputs), changed, rtol=1e-4, atol=1e-5)
        adapter.set_scale(0.25)
        torch.testing.assert_close(output(compiled, inputs), output(model, inputs), rtol=1e-4, atol=1e-5)
        adapter.set_scale(1.0)
        adapter.merge()
        torch.testing.assert_close(output(compiled, inputs), changed, rtol=1e-4, atol=1e-5)
        adapter.unmerge()
        with adapter.cached():
            torch.testing.assert_close(output(compiled, inputs), changed, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(output(compiled, inputs), changed, rtol=1e-4, atol=1e-5)
    assert distance(changed, plain) > 0.01


def test_compiled_in_place():
    _, model, adapter = attached("mixed", "fastfood")
    inputs = inputs_for("mixed")
    wanted, wanted_gradients = compiled_step(model, adapter, inputs)
    model.compile(fullgraph=True, backend="aot_eager")
    found, found_gradients = compiled_step(model, adapter, inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for name, grad in wanted_gradients.items():
        assert distance(found_gradients[name], grad) < 1e-4, name


def test_two_adapters_compile():
    _, model, _adapter = attached("mixed", "group")
    second = attach(model, SuperLoRAConfig(**fields_for("mixed", "lora")), name="second")
    fill(second, seed=2)
    inputs = inputs_for("mixed")
    wanted = output(model, inputs)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(output(compiled, inputs), wanted, rtol=1e-4, atol=1e-5)


def test_the_deltas_compile():
    _, _, adapter = attached("mixed", "tanh")
    wanted = adapter.deltas()
    found = torch.compile(adapter.deltas, fullgraph=True, backend="aot_eager")()
    for name, delta in wanted.items():
        torch.testing.assert_close(found[name], delta)
