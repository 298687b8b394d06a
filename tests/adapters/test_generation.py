"""The deltas, their gradients and the tensors behind them, against the slow twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from superlora_diffusion import SuperLoRAConfig, attach, count_parameters

from . import oracle
from .grid import COMBINATIONS, CONV, LINEAR
from .networks import fill, tree, triples


def attached(spec, fields):
    return attach(tree(spec), SuperLoRAConfig(**fields))


def weights_of(adapter) -> dict[str, np.ndarray]:
    """The base's weights by target."""
    model = adapter._model
    return {name: model.get_submodule(name).weight.detach().numpy() for name, _, _ in adapter.targets}


def numbers_for(fields, targets, seed=0, weights=None) -> dict[str, np.ndarray]:
    """Random numbers whose deltas, before scale and tanh, peak at 2: there the tanh bends."""
    generator = np.random.default_rng(seed)
    shapes = oracle.parameter_shapes(fields, targets)
    numbers = {name: generator.normal(size=shape) for name, shape in shapes.items()}
    kind = fields.get("projection", "none").removesuffix("_tanh")
    plain = oracle.deltas(
        fields | {"projection": kind, "scale": 1, "step": "plain"}, targets, numbers, weights
    )
    peak = max(np.abs(delta).max() for delta in plain.values())
    for name in oracle.zero_tensors(fields, targets):
        numbers[name] *= 2 / peak
    return numbers


@torch.no_grad()
def put(adapter, numbers) -> None:
    for name, parameter in adapter.named_parameters():
        parameter.copy_(torch.from_numpy(np.asarray(numbers[name])))


def as_float32(numbers):
    return {name: array.astype(np.float32).astype(np.float64) for name, array in numbers.items()}


def test_the_grid_is_wide():
    assert len(COMBINATIONS) >= 150
    used = [fields for _, fields in COMBINATIONS.values()]
    assert any(isinstance(fields.get("rank"), list) for fields in used)
    assert any(fields.get("factor_all_splits") for fields in used)
    stepped = [fields for fields in used if "step" in fields]
    for name in ("core", "projection", "splits", "order", "groups", "factor_all_splits"):
        values = {fields.get(name) for fields in stepped}
        assert values == {fields.get(name) for fields in used}, f"steps of every {name}"


@pytest.mark.parametrize("label", COMBINATIONS, ids=list(COMBINATIONS))
def test_equals_the_slow_twin(label):
    spec, fields = COMBINATIONS[label]
    targets = triples(spec)
    adapter = attached(spec, fields)

    shapes = {name: tuple(parameter.shape) for name, parameter in adapter.named_parameters()}
    assert shapes == oracle.parameter_shapes(fields, targets)
    total = oracle.count(fields, targets)
    assert (adapter.num_parameters, count_parameters(adapter.config, targets)) == (total, total)

    weights = weights_of(adapter)
    numbers = as_float32(numbers_for(fields, targets, weights=weights))
    put(adapter, numbers)
    expected = oracle.deltas(fields, targets, numbers, weights)
    deltas = adapter.deltas()
    assert list(deltas) == [name for name, _ in spec]
    peak = max(np.abs(delta).max() for delta in expected.values())
    assert peak > 0.1
    for name, shape in spec:
        assert deltas[name].dtype == torch.float32
        assert deltas[name].shape == shape
        got = deltas[name].detach().numpy().reshape(expected[name].shape)
        np.testing.assert_allclose(got, expected[name], rtol=1e-5, atol=1e-5 * peak)


@pytest.mark.parametrize("label", COMBINATIONS, ids=list(COMBINATIONS))
def test_gradients_equal_central_differences_of_the_twin(label):
    """One random direction through all tensors: <gradient, v> against the twin's central difference along v."""
    spec, fields = COMBINATIONS[label]
    targets = triples(spec)
    adapter = attached(spec, fields)
    weights = weights_of(adapter)
    numbers = as_float32(numbers_for(fields, targets, seed=1, weights=weights))
    put(adapter, numbers)
    generator = np.random.default_rng(2)
    probe = {name: generator.normal(size=shape) for name, shape in spec}
    loss = sum((delta * torch.from_numpy(probe[name])).sum() for name, delta in adapter.deltas().items())
    loss.backward()

    def twin(trial):
        """Each weight's term of the loss."""
        deltas = oracle.deltas(fields, targets, trial, weights)
        return np.concatenate([deltas[name].ravel() * probe[name].ravel() for name in deltas])

    grads = {name: parameter.grad.double().numpy() for name, parameter in adapter.named_parameters()}
    directions = {name: generator.normal(size=grad.shape) for name, grad in grads.items()}
    step = 1e-6
    up, down = (twin({name: numbers[name] + s * step * v for name, v in directions.items()}) for s in (1, -1))
    slope = sum((grad * directions[name]).sum() for name, grad in grads.items())
    terms = (up - down) / (2 * step)
    assert np.abs(terms).max() > 1e-3
    # A sum over all weights, in fp32: it is off by the rounding of its terms, which may be far larger than it is.
    assert slope == pytest.approx(terms.sum(), rel=1e-5, abs=1e-6 * np.abs(terms).sum())


@pytest.mark.parametrize("spec", [LINEAR, CONV], ids=["linear", "conv"])
@pytest.mark.parametrize("groups", ["weight", "layer", "shape", 1, 2, 5])
@pytest.mark.parametrize("projection", ["none", "shuffle"])
def test_every_weight_is_covered_exactly_once(spec, groups, projection):
    """Dense vectors that count 1..N must come out as each number once, a cut last run aside."""
    adapter = attached(spec, dict(groups=groups, order=1, projection=projection))
    total = sum(math.prod(shape) for _, shape in spec)
    start = 1
    with torch.no_grad():
        for _, vector in sorted(adapter.named_parameters()):
            vector.copy_(torch.arange(start, start + len(vector)))
            start += len(vector)
    covered = torch.cat([delta.detach().reshape(-1) for delta in adapter.deltas().values()]).long()
    assert len(covered) == total
    assert len(set(covered.tolist())) == total
    if isinstance(groups, int) and projection == "none":
        assert covered.tolist() == list(range(1, total + 1))
    if start - 1 == total:
        assert sorted(covered.tolist()) == list(range(1, total + 1))


def test_layer_groups_are_named_by_the_module_around_the_matched_pattern():
    spec = [("a.to_q", (2, 3)), ("b.to_q", (2, 3)), ("a.to_out.0", (4, 3)), ("b.to_out.0", (1, 5))]
    fields = dict(targets=["to_q", "to_out.0"], groups="layer", order=1)
    adapter = attached(spec, fields)
    with torch.no_grad():
        for g, (_, vector) in enumerate(sorted(adapter.named_parameters())):
            vector.fill_(g + 1)
    values = {name: set(delta.unique().tolist()) for name, delta in adapter.deltas().items()}
    assert values == {"a.to_q": {1.0}, "b.to_q": {2.0}, "a.to_out.0": {1.0}, "b.to_out.0": {2.0}}


def test_the_scale_multiplies_the_generated_delta_after_the_tanh():
    fields = dict(order=1, projection="fastfood_tanh", ratio=0.5)
    one, ten = attached(LINEAR, fields), attached(LINEAR, fields | {"scale": 10})
    for adapter in (one, ten):
        put(adapter, numbers_for(fields, triples(LINEAR)))
    for name, delta in one.deltas().items():
        torch.testing.assert_close(ten.deltas()[name], delta * 10)
        assert delta.abs().max() > 0.1


def test_no_rank_to_the_order_times_n_intermediate():
    """Order 5 at rank 12 over 400,000 weights: a rank**5-wide intermediate would be 400 GB."""
    spec = [("a.to_q", (800, 500))]
    for core in ("identity", "full"):
        fields = dict(targets=["to_q"], order=5, rank=12, core=core)
        adapter = attached(spec, fields)
        fill(adapter)
        assert adapter.deltas()["a.to_q"].abs().sum() > 0
