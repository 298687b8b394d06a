"""Guards on the work that an adapter does, counted and not timed: how often, how large, how much at once."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters import autograd, block_hadamard, gather, hadamard, layers, units

from .networks import fill, tree
from .recording import Recorder

ROWS, COLUMNS = 500, 400
N = ROWS * COLUMNS


def single(**fields):
    """An adapter of one matrix of 200,000 weights."""
    adapter = attach(tree([("to_q", (ROWS, COLUMNS))]), SuperLoRAConfig(targets=["to_q"], **fields))
    fill(adapter)
    return adapter


class Chain(nn.Module):
    """Six square layers one after the other; few rows go through, so that weights are all that is large."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.steps = nn.ModuleList(nn.ModuleDict({"to_q": nn.Linear(width, width)}) for _ in range(6))
        self.width = width

    def forward(self, x):
        for step in self.steps:
            x = torch.tanh(step["to_q"](x))
        return x


def chain(**fields):
    model = Chain()
    adapter = attach(model, SuperLoRAConfig(targets=["to_q"], **fields))
    fill(adapter)
    return model, adapter


CHAIN = 6 * 64 * 64  # weights of its targets
UNIT = 64 * 64


def row():
    return torch.randn(1, 64, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- how often


@pytest.fixture
def written(monkeypatch):
    """The units that were generated, one entry each time."""
    calls = []
    real = autograd.write_unit
    monkeypatch.setattr(autograd, "write_unit", lambda unit, *rest: calls.append(unit) or real(unit, *rest))
    return calls


GROUPINGS = {
    "one": (dict(groups=1, order=3), 1),
    "runs": (dict(groups=4, rank=2), 1),
    "weights": (dict(groups="weight", rank=2), 6),
    "fastfood": (dict(groups=2, order=1, projection="fastfood_tanh", ratio=0.1), 1),
    "blocks": (dict(groups="weight", order=1, projection="block_hadamard", ratio=0.1), 6),
}


@pytest.mark.parametrize("case", GROUPINGS)
def test_each_unit_is_generated_once_a_pass(case, written, monkeypatch):
    monkeypatch.setattr(units, "SMALL", 1)
    fields, count = GROUPINGS[case]
    model, adapter = chain(**fields, route="weight")
    assert len(adapter.units) == count
    written.clear()
    before = adapter.generations
    result = model(row())
    assert len(written) == len({id(unit) for unit in written}) == count
    result.sum().backward()
    assert len(written) == count, "the gradient needs no second generation"
    assert adapter.generations == before + 1
    with torch.no_grad():
        model(row())
        assert (len(written), adapter.generations) == (2 * count, before + 2)
        with adapter.cached():
            for _ in range(3):
                model(row())
        assert (len(written), adapter.generations) == (3 * count, before + 3)


def test_small_groups_share_a_unit_and_large_ones_do_not(monkeypatch):
    _, adapter = chain(groups="weight", rank=2)
    assert [len(unit.groups) for unit in adapter.units] == [6]
    for limit, expected in ((2 * UNIT, [2, 2, 2]), (5 * UNIT, [5, 1]), (UNIT - 1, [1] * 6)):
        monkeypatch.setattr(units, "SMALL", limit)
        _, adapter = chain(groups="weight", rank=2)
        assert [len(unit.groups) for unit in adapter.units] == expected
        assert sorted(index for unit in adapter.units for index in unit.members) == list(range(6))
        assert sum(sum(unit.sizes) for unit in adapter.units) == CHAIN


def test_units_are_generated_when_their_first_layer_runs(written, monkeypatch):
    monkeypatch.setattr(units, "SMALL", 1)
    model, _ = chain(groups="weight", rank=2, route="weight")
    written.clear()
    seen = []
    for step in model.steps:
        step["to_q"].register_forward_hook(lambda *args: seen.append(len(written)))
    model(row())
    assert seen == [1, 2, 3, 4, 5, 6]


# ---------------------------------------------------------------- how much at once in a forward


@pytest.mark.parametrize("grad", [True, False])
def test_weight_and_update_share_one_memory(grad, monkeypatch):
    """One group: what the layers get are pieces of one vector of N numbers, and nothing else is so large."""
    model, _ = chain(groups=1, order=3, rank=3, core="full")
    given = []
    real = layers.F.linear
    monkeypatch.setattr(
        layers.F, "linear", lambda x, weight, bias: given.append(weight) or real(x, weight, bias)
    )
    with torch.set_grad_enabled(grad), Recorder(large=UNIT) as recorder:
        result = model(row())
    assert len(given) == 6
    (storage,) = {weight.untyped_storage().data_ptr() for weight in given}
    assert given[0].untyped_storage().nbytes() == 4 * CHAIN
    assert sorted(weight.data_ptr() - storage for weight in given) == [4 * UNIT * i for i in range(6)]
    assert recorder.most_large == 1
    assert recorder.peak < 1.2 * CHAIN
    given.clear()
    assert (recorder.live > CHAIN) == grad, "only a graph keeps it"
    del result
    assert recorder.live < 0.01 * CHAIN


def test_a_whole_step_of_one_group():
    """Weight + update, the gradients of the weights, and those joined: three times N, no more."""
    model, _ = chain(groups=1, order=3, rank=3, core="full")
    with Recorder() as recorder:
        model(row()).sum().backward()
    assert 2 * CHAIN < recorder.peak < 3.25 * CHAIN


def test_units_of_their_own_go_one_by_one_in_backward(monkeypatch):
    """The gradient of one weight is gone before the next one's is there, and so is the weight itself."""
    monkeypatch.setattr(units, "SMALL", 1)
    model, adapter = chain(groups="weight", rank=2, route="weight")
    with Recorder(large=UNIT) as forward:
        result = model(row())
    assert forward.most_large == 6
    alive = []
    for parameter in adapter.parameters():
        parameter.register_post_accumulate_grad_hook(lambda _: alive.append(forward.live))
    loss = result.sum()
    del result
    with Recorder(large=UNIT) as backward:
        loss.backward()
    assert backward.most_large <= 2, "of six"
    assert alive[0] > 5 * UNIT and alive[-1] < 2 * UNIT
    assert all(later <= earlier for earlier, later in itertools.pairwise(alive))


# ---------------------------------------------------------------- how large


GENERATED = {
    **{f"tucker-{order}": dict(order=order, core="full", rank=5) for order in (3, 4, 5)},
    **{f"cp-{order}": dict(order=order, rank=12) for order in (3, 4, 5)},
    **{f"cp-{order}-diagonal": dict(order=order, rank=5, core="diagonal") for order in (3, 5)},
    **{f"kronecker-{splits}": dict(splits=splits, split_factor=6, rank=4) for splits in (2, 3)},
    **{
        f"kronecker-{splits}-crop": dict(variant="lokr", splits=splits, split_factor=7, rank=4)
        for splits in (2, 3)
    },
    "lora": dict(variant="lora", rank=8),
    "block-hadamard": dict(order=1, projection="block_hadamard", ratio=0.01),
    "block-hadamard-many": dict(order=1, projection="block_hadamard", ratio=0.1),
    "block-hadamard-lorta": dict(order=3, core="full", projection="block_hadamard", ratio=0.08),
    "gather": dict(order=1, projection="gather", ratio=0.001),
    "gather-many": dict(order=1, projection="gather", ratio=0.1),
}
every_generated = pytest.mark.parametrize("case", GENERATED)


@pytest.fixture
def small_chunks(monkeypatch):
    """Strips and rows that are worked on at once are small against 200,000, as they are against real sizes."""
    monkeypatch.setattr(hadamard, "CHUNK", 2**13)
    monkeypatch.setattr(block_hadamard, "_FEWEST_COLUMNS", 4)
    monkeypatch.setattr(gather, "_WIDENED", 2**13)


@every_generated
def test_no_intermediate_of_generation_is_larger_than_the_update(case, small_chunks):
    adapter = single(**GENERATED[case])
    with Recorder() as recorder:
        (delta,) = adapter.deltas().values()
    assert N <= recorder.largest <= 1.2 * N
    assert N <= recorder.peak < 2.2 * N
    grad = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    with Recorder() as recorder:
        torch.autograd.grad(delta, list(adapter.parameters()), grad)
    assert recorder.results and recorder.largest <= 1.2 * N
    assert recorder.peak < 2.2 * N, "beside the gradient that came in"


# What was measured, and a little more: the halves of order 5 are as long as half the update, for its last side is
# short.
@pytest.mark.parametrize(("order", "forward", "backward"), [(3, 1.15, 0.4), (4, 1.4, 1.0), (5, 1.9, 2.1)])
def test_lorta_takes_little_beside_its_update(order, forward, backward):
    adapter = single(variant="lorta", order=order)
    with Recorder(large=N) as recorder:
        (delta,) = adapter.deltas().values()
    assert recorder.most_large == 1
    assert recorder.peak < forward * N
    grad = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    with Recorder(large=N) as recorder:
        torch.autograd.grad(delta, list(adapter.parameters()), grad)
    assert recorder.most_large == 0
    assert recorder.peak < backward * N


def test_block_hadamard_makes_no_more_numbers_than_a_strip(small_chunks):
    """Beside the update: x, its blocks, and one strip that stays in cache."""
    adapter = single(order=1, projection="block_hadamard", ratio=0.01)
    strip = 4 * block_hadamard.block_side(N, N // 100)
    with Recorder(large=N) as recorder:
        (delta,) = adapter.deltas().values()
    assert recorder.most_large == 1
    assert recorder.peak < N + 5 * strip
    grad = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    with Recorder(large=N // 2) as recorder:
        torch.autograd.grad(delta, list(adapter.parameters()), grad)
    assert recorder.most_large == 0
    assert recorder.peak < 6 * strip


def test_gather_makes_no_second_vector(small_chunks):
    """Beside the update the m numbers, and for their gradients a piece in double precision."""
    adapter = single(order=1, projection="gather", ratio=0.001)
    with Recorder(large=N) as recorder:
        (delta,) = adapter.deltas().values()
    assert recorder.most_large == 1 and recorder.peak < N + 10 * N // 1000
    grad = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    with Recorder() as recorder:
        torch.autograd.grad(delta, list(adapter.parameters()), grad)
    assert recorder.peak < 2 * 2**13 + 20 * N // 1000


@pytest.mark.parametrize("groups", ["weight", 1])
def test_fourier_takes_a_spectrum_and_its_transform_beside_the_update(groups):
    """Half spectra of complex numbers, each as long as the update and a little."""
    adapter = single(groups=groups, order=1, projection="fourier", ratio=0.01)
    with Recorder() as recorder:
        (delta,) = adapter.deltas().values()
    assert recorder.peak < 3.1 * N
    grad = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    with Recorder() as recorder:
        torch.autograd.grad(delta, list(adapter.parameters()), grad)
    assert recorder.peak < 2.2 * N


def test_the_recorder_sees_what_it_is_for():
    """A second copy of the update, or one wide product, would not go unnoticed."""
    x = torch.ones(100)
    with Recorder(large=100) as recorder:
        y = x * 2
        z = y + x
        del y
        w = z.view(10, 10)[:5]
    assert recorder.most_large == 2 and recorder.peak == 200 and recorder.live == 100
    assert recorder.largest == 100
    del z, w
    assert recorder.live == 0
