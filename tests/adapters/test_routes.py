"""Updates as two small products or added to the weight: the same layer, and who picks which."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters import layers
from superlora_diffusion.adapters.low_rank import products_are_cheaper
from superlora_diffusion.errors import ConfigError

from .networks import LINEAR_WIDTH as WIDTH
from .networks import distance, fill, gradients, linear_net, mixed_net, with_deltas

STACK = dict(groups="shape", fold="stack", order=3)
SETTINGS = {
    "lora": dict(variant="lora", rank=3),
    "lora-diagonal": dict(variant="lora", rank=3, core="diagonal"),
    "lora-full": dict(variant="lora", rank=[2, 4], core="full"),
    "lotr": dict(variant="lotr", rank=3),
    "lotr-list": dict(variant="lotr", rank=[2, 3, 4]),
    "cp-stack": dict(**STACK, rank=3),
    "cp-stack-diagonal": dict(**STACK, rank=3, core="diagonal"),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS)


def attached(setting, route, dtype=None, seed=0, **options):
    model = linear_net(**options)
    if dtype is not None:
        model.to(dtype)
    adapter = attach(model, SuperLoRAConfig(**SETTINGS[setting], scale=-0.7, route=route))
    fill(adapter, seed=seed)
    return model, adapter


def inputs(*shape, dtype=torch.float32):
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


def step(model, adapter, x):
    """Output, gradients of the adapter and of the input."""
    adapter.zero_grad()
    x = x.clone().requires_grad_()
    result = model(x)
    result.float().pow(2).mean().backward()
    return result.detach(), gradients(adapter) | {"input": x.grad}


def assert_same(one, two, tolerance=1e-5):
    assert distance(one[0], two[0]) < tolerance
    assert one[1].keys() == two[1].keys()
    for name, grad in two[1].items():
        assert grad.abs().sum() > 0
        assert distance(one[1][name], grad) < tolerance, name


@pytest.fixture
def spy(monkeypatch):
    """Which updates were applied as products: one entry a layer and call."""
    calls = []
    real = layers._add_products
    monkeypatch.setattr(layers, "_add_products", lambda *args: calls.append(args) or real(*args))
    return calls


# ---------------------------------------------------------------- the same layer


@every_setting
@pytest.mark.parametrize("shape", [(5,), (2, 7), (), (2, 3, 4), (0,)], ids=str)
def test_outputs_and_gradients_agree(setting, shape, spy):
    """Rows, sequences, one vector, images of vectors, and no rows at all."""
    weight = step(*attached(setting, "weight"), inputs(*shape))
    assert not spy
    products = step(*attached(setting, "products"), inputs(*shape))
    assert len(spy) == 6
    assert products[0].shape == (*shape, WIDTH)
    if shape != (0,):
        assert_same(products, weight)
        plain = linear_net()(inputs(*shape))
        assert distance(weight[0], plain) > 0.05, "the update does something"


@every_setting
def test_the_factors_are_those_of_the_deltas(setting):
    _, adapter = attached(setting, "products")
    adapter.set_scale(2.0)
    for index, delta in enumerate(adapter.deltas().values()):
        left, right = adapter.factors_for_layer(index)
        assert left.shape[1] <= 4
        torch.testing.assert_close(left @ right.t(), delta, rtol=1e-4, atol=1e-6)
        assert delta.abs().max() > 0.01


@every_setting
def test_bfloat16_weights(setting):
    x = inputs(2, 7, dtype=torch.bfloat16)
    products = step(*attached(setting, "products", torch.bfloat16), x)
    weight = step(*attached(setting, "weight", torch.bfloat16), x)
    assert products[0].dtype == torch.bfloat16
    assert products[1]["g0_k1_a2"].dtype == torch.float32
    assert_same(products, weight, tolerance=0.05)


@every_setting
def test_autocast(setting):
    def run(route):
        model, adapter = attached(setting, route)
        with torch.autocast("cpu", torch.bfloat16):
            return step(model, adapter, inputs(2, 7))

    exact = step(*attached(setting, "weight"), inputs(2, 7))
    for route in ("products", "weight"):
        found = run(route)
        assert_same(found, exact, tolerance=0.05)
        assert all(grad.dtype == torch.float32 for grad in found[1].values())


@every_setting
@pytest.mark.parametrize("kind", ["reentrant", "non-reentrant"])
@pytest.mark.parametrize("route", ["products", "weight", "auto"])
def test_checkpointing(setting, kind, route):
    plain = step(*attached(setting, "weight"), inputs(2, 7))
    model, adapter = attached(setting, route, checkpointing=kind)
    assert_same(step(model, adapter, inputs(2, 7)), plain)
    assert_same(step(model, adapter, inputs(2, 7)), plain)


@pytest.mark.parametrize("routes", [("products", "weight"), ("weight", "products"), ("products",) * 2])
def test_two_adapters_on_the_same_layers(routes, spy):
    def both(routes):
        model = linear_net()
        adapters = [
            attach(model, SuperLoRAConfig(**SETTINGS[setting], route=route), name=setting.replace("-", "_"))
            for setting, route in zip(("lora", "lotr"), routes, strict=True)
        ]
        for seed, adapter in enumerate(adapters):
            fill(adapter, seed=seed)
        return model, adapters

    model, adapters = both(routes)
    other, others = both(("weight", "weight"))
    x = inputs(2, 7)
    for mine, theirs in zip(adapters, others, strict=True):
        assert_same(step(model, mine, x), step(other, theirs, x))
    expected = with_deltas(linear_net(), *(adapter.deltas() for adapter in adapters))
    assert distance(model(x), expected(x)) < 1e-5
    spy.clear()
    for mine, theirs, route in zip(adapters, others, routes, strict=True):
        with mine.disabled(), theirs.disabled():
            assert distance(model(x), other(x)) < 1e-5
        assert len(spy) == 6 * (routes.count("products") - (route == "products"))
        spy.clear()
    adapters[0].merge()
    assert distance(model(x), expected(x)) < 1e-5
    adapters[0].unmerge()
    assert distance(model(x), expected(x)) < 1e-5


@every_setting
def test_disabled_scaled_cached_and_merged(setting, spy):
    model, adapter = attached(setting, "products")
    base, x = linear_net(), inputs(2, 7)

    def expected():
        return with_deltas(base, adapter.deltas())(x)

    with adapter.disabled():
        assert torch.equal(model(x), base(x))
    assert not spy
    for scale in (0.5, -2.0, 0.0):
        adapter.set_scale(scale)
        assert distance(model(x), expected()) < 1e-5
    adapter.set_scale(1.0)
    with torch.no_grad(), adapter.cached():
        assert distance(model(x), expected()) < 1e-5
        adapter.set_scale(3.0)
        assert distance(model(x), expected()) < 1e-5
    adapter.merge()
    spy.clear()
    assert distance(model(x), expected()) < 1e-5
    assert not spy, "merged weights need nothing beside"
    adapter.unmerge()
    assert distance(model(x), expected()) < 1e-5 and len(spy) == 6


def test_products_generate_nothing_dense():
    """Kept or not, no weight-sized update is made for a route that never asks for one."""
    model, adapter = attached("lora", "products")
    before = adapter.generations
    with torch.no_grad(), adapter.cached():
        model(inputs(3))
        assert not adapter._pinned._units
    model(inputs(3)).sum().backward()
    assert adapter.generations == before + 2, "counted all the same, once a pass"


# ---------------------------------------------------------------- refused


NOT_LOW_RANK = {
    "projection": dict(variant="lora", projection="shuffle"),
    "splits": dict(variant="lokr"),
    "dense": dict(variant="dense"),
    "runs": dict(variant="group_lora"),
    "order 3": dict(variant="lorta"),
    "square": dict(groups="weight", rank=2),
    "a whole side": dict(variant="lotr", rank=["full", "full", 2]),
    "a rank that is the side": dict(variant="lora", core="full", rank=WIDTH),
}


@pytest.mark.parametrize("case", NOT_LOW_RANK)
def test_products_are_refused_where_there_are_none(case):
    model = linear_net()
    with pytest.raises(ConfigError) as refused:
        attach(model, SuperLoRAConfig(**NOT_LOW_RANK[case], route="products"))
    assert [field for field, _ in refused.value.faults] == ["route"]
    assert "'products'" in str(refused.value) and "'auto'" in str(refused.value)
    assert type(model.blocks[0].to_q) is nn.Linear, "nothing was attached"
    x = inputs(3)
    adapter = attach(model, SuperLoRAConfig(**NOT_LOW_RANK[case]))
    fill(adapter)
    assert not any(adapter.uses_products(index, 1) for index in range(len(adapter.targets)))
    assert distance(model(x), with_deltas(linear_net(), adapter.deltas())(x)) < 1e-5


@pytest.mark.parametrize("targets", [["to_q", "to_v"], ["to_v", "to_k"]])
def test_products_are_refused_for_convolutions(targets):
    with pytest.raises(ConfigError) as refused:
        attach(mixed_net(), SuperLoRAConfig(variant="lora", targets=targets, route="products"))
    assert [field for field, _ in refused.value.faults] == ["route"]
    attach(mixed_net(), SuperLoRAConfig(variant="lora", targets=["to_k"], route="products"))


def test_an_unknown_route_is_refused():
    with pytest.raises(ConfigError, match="route"):
        SuperLoRAConfig(route="fast")


# ---------------------------------------------------------------- auto


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("width", "rank", "tokens", "products"),
    [(512, 2, 64, True), (24, 16, 4096, False)],
    ids=["wide", "narrow"],
)
def test_auto_takes_what_is_cheaper(width, rank, tokens, products, training, spy):
    model = nn.Sequential()
    model.add_module("to_q", nn.Linear(width, width))
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(variant="lora", rank=rank, targets=["to_q"]))
    fill(adapter)
    x = torch.randn(tokens // 2, 2, width)
    with torch.set_grad_enabled(training):
        assert products_are_cheaper(width, width, rank, tokens, training) == products
        assert adapter.uses_products(0, tokens) == products
        result = model(x)
        assert len(spy) == products
        assert distance(result, with_deltas(base, adapter.deltas())(x)) < 1e-5
        with adapter.cached():
            assert not adapter.uses_products(0, tokens), "what is kept costs nothing"


def test_auto_turns_to_the_weight_where_tokens_are_many_and_there_is_no_backward():
    cheaper = [products_are_cheaper(256, 256, 8, tokens, training=False) for tokens in (1, 64, 2**16)]
    assert cheaper == [True, True, False]
    assert products_are_cheaper(256, 256, 8, 2**16, training=True), "a whole gradient matrix costs more"
