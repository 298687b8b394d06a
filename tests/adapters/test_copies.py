"""deepcopy, pickle and DDP of an attached model."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from superlora_diffusion import SuperLoRAConfig, attach

from .networks import (
    NETWORKS,
    SETTINGS,
    distance,
    fields_for,
    fill,
    gradients,
    inputs_for,
    only_adapter,
    output,
    with_deltas,
)

everywhere = pytest.mark.parametrize("network", NETWORKS)
every_setting = pytest.mark.parametrize("setting", SETTINGS)

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


def attached(network, setting="group"):
    model = NETWORKS[network]()
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**fields_for(network, setting)))
    fill(adapter)
    return base, model, adapter


@everywhere
@every_setting
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_equal_and_independent(network, setting, way):
    base, model, adapter = attached(network, setting)
    adapter.set_scale(0.5)
    inputs = inputs_for(network)
    first = output(model, inputs)
    twin = COPIES[way](model)
    other = only_adapter(twin, adapter)
    assert other is not adapter
    assert torch.equal(output(twin, inputs), first)
    theirs = {p.data_ptr() for p in twin.parameters()}
    assert not theirs & {p.data_ptr() for p in model.parameters()}
    assert {id(p) for p in twin.parameters() if p.requires_grad} == {id(p) for p in other.parameters()}
    assert list(twin.state_dict()) == list(base.state_dict())

    # Training the copy: its own gradients, its own count, the original unmoved; and the other way round.
    before, counted = adapter.generations, other.generations
    output(twin, inputs).pow(2).mean().backward()
    assert adapter.generations == before and other.generations == counted + 1
    assert all(p.grad is None for p in adapter.parameters())
    assert all(grad.abs().sum() > 0 for grad in gradients(other).values())
    fill(other, seed=8)
    assert torch.equal(output(model, inputs), first)
    expected = output(with_deltas(base, other.deltas()), inputs)
    torch.testing.assert_close(output(twin, inputs), expected, rtol=1e-4, atol=1e-5)
    assert distance(expected, first) > 1e-3
    fill(adapter, seed=9)
    torch.testing.assert_close(output(twin, inputs), expected, rtol=1e-4, atol=1e-5)

    # Taking one off leaves the other on.
    other.unload()
    assert torch.equal(output(twin, inputs), output(base, inputs))
    expected = output(with_deltas(base, adapter.deltas()), inputs)
    torch.testing.assert_close(output(model, inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_a_copy_after_forwards_and_a_backward(way):
    """The state a training loop leaves behind must not keep a model from being copied."""
    _, model, adapter = attached("mixed", "tucker")
    inputs = inputs_for("mixed")
    output(model, inputs).sum().backward()
    with torch.inference_mode():
        output(model, inputs)
    twin = COPIES[way](COPIES[way](model))
    assert torch.equal(output(twin, inputs), output(model, inputs))
    del model, adapter
    assert output(twin, inputs).isfinite().all()


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_made_inside_cached_does_not_stay_cached(way):
    base, model, adapter = attached("mixed")
    inputs = inputs_for("mixed")
    with torch.no_grad():
        with adapter.cached():
            output(model, inputs)
            twin = COPIES[way](model)
        other = only_adapter(twin, adapter)
        fill(adapter, seed=4)
        fill(other, seed=5)
        for net, its in ((model, adapter), (twin, other)):
            expected = output(with_deltas(base, its.deltas()), inputs)
            torch.testing.assert_close(output(net, inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", COPIES)
def test_a_merged_model_copies(way):
    base, model, adapter = attached("mixed")
    inputs = inputs_for("mixed")
    adapter.merge()
    twin = COPIES[way](model)
    assert torch.equal(output(twin, inputs), output(model, inputs))
    other = only_adapter(twin, adapter)
    other.unmerge()
    other.unload()
    assert torch.equal(output(twin, inputs), output(base, inputs))
    assert not torch.equal(output(model, inputs), output(base, inputs))


@pytest.fixture
def one_process():
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@everywhere
@every_setting
def test_ddp_reaches_the_adapter_once(network, setting, one_process):
    _, model, adapter = attached(network, setting)
    inputs = inputs_for(network)
    expected = output(model, inputs)
    expected.pow(2).mean().backward()
    wanted = gradients(adapter)
    adapter.zero_grad()

    parallel = DistributedDataParallel(model)
    trained = [parameter for parameter in parallel.parameters() if parameter.requires_grad]
    assert len(trained) == len({id(p) for p in trained}) == len(list(adapter.parameters()))
    before = adapter.generations
    result = output(parallel, inputs)
    assert adapter.generations == before + 1
    assert torch.equal(result, expected)
    result.pow(2).mean().backward()
    for name, grad in gradients(adapter).items():
        assert distance(grad, wanted[name]) < 1e-5, name
        assert grad.abs().sum() > 0
    output(parallel, inputs).sum().backward()  # a second step finds its buckets ready
