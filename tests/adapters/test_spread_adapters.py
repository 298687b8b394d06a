"""Adapters whose numbers are spread by a fixed map: with every factoring, on disk, and compiled."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from superlora_diffusion import SuperLoRAConfig, attach, load_adapter
from superlora_diffusion.adapters.generation import generate_deltas, numbers_of

from .dense import block_hadamard_matrix, fourier_matrix, gather_matrix, singular_matrix
from .folder import CONFIG, WEIGHTS, edit, refuses, same_deltas
from .networks import MIXED_TARGETS, distance, fill, gradients, inputs_for, mixed_net, output, with_deltas

MATRICES = {
    "block_hadamard": lambda group, arrays: block_hadamard_matrix(group.n, group.m, arrays),
    "gather": lambda group, arrays: gather_matrix(group.n, group.m, arrays),
    "fourier": lambda group, arrays: fourier_matrix(group.grid, group.m, arrays),
    "singular": lambda group, arrays: singular_matrix(group.n, group.m, arrays),
}
every_kind = pytest.mark.parametrize("kind", MATRICES)
every_drawn_kind = pytest.mark.parametrize("kind", [kind for kind in MATRICES if kind != "singular"])
# The network's N is 4,539: one block of 512 for a matrix, 3 or 5 of 1,024 for a run.
SETTINGS = {
    "vector": dict(groups=1, order=1, ratio=0.5),  # c 3, r 5
    "few": dict(groups=1, order=1, ratio=0.01),  # c 1, r 5
    "runs": dict(groups=2, rank=3, ratio=0.6),  # c 2, r 3, the last run cut
    "tucker": dict(groups=1, order=3, core="full", rank=3, ratio=0.2, scale=-0.5),
    "tucker-layers": dict(groups="layer", order=3, core="full", rank=3, ratio=0.1),
    "weights": dict(groups="weight", rank=2, ratio=0.25),
    "whole": dict(groups="shape", order=4, rank=2, core="diagonal"),  # ratio 1
    "kronecker": dict(groups=1, splits=2, split_factor=3, rank=2, ratio=0.4, factor_all_splits=True),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS)
INPUTS = inputs_for("mixed")


def network():
    return mixed_net(width=17)


def attached(setting, kind, **changes):
    model = network()
    base = copy.deepcopy(model)
    fields = dict(targets=MIXED_TARGETS, projection=kind) | SETTINGS[setting] | changes
    if kind == "singular":  # the count follows from directions, and runs may not cut across matrices
        fields |= dict(ratio=1, directions=9, groups={2: "weight"}.get(fields["groups"], fields["groups"]))
    adapter = attach(model, SuperLoRAConfig(**fields))
    fill(adapter)
    return base, model, adapter


def step(model, adapter):
    adapter.zero_grad()
    result = output(model, INPUTS)
    result.pow(2).mean().backward()
    return result.detach(), gradients(adapter)


def assert_same(one, two):
    assert distance(one[0], two[0]) < 1e-5
    for name, grad in two[1].items():
        assert grad.abs().sum() > 0 and distance(one[1][name], grad) < 1e-4, name


@every_kind
@every_setting
def test_the_deltas_are_the_matrix_times_the_numbers(setting, kind):
    _, _, adapter = attached(setting, kind)
    vectors = []
    for group, arrays in zip(adapter.plan.groups, adapter.arrays(), strict=True):
        with torch.no_grad():
            x = numbers_of(group, adapter.tensors()).double().numpy()
        vectors.append(adapter.scale * MATRICES[kind](group, arrays) @ x)
    deltas = list(adapter.deltas().values())
    wanted = np.concatenate(vectors)
    order = adapter.plan.grouping.order
    found = np.concatenate([deltas[index].detach().numpy().reshape(-1) for index in order])
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted[: len(found)], atol=1e-5 * np.abs(wanted).max())


@every_kind
@every_setting
def test_gradients_are_those_of_the_plain_graph(setting, kind):
    _, _, adapter = attached(setting, kind)
    probes = [torch.randn(delta.shape, generator=torch.Generator().manual_seed(1)) for delta in
              adapter.deltas().values()]  # fmt: skip
    shapes = [probe.shape for probe in probes]

    def gradients_of(deltas):
        loss = sum((delta * probe).sum() for delta, probe in zip(deltas, probes, strict=True))
        return torch.autograd.grad(loss, list(adapter.parameters()))

    found = gradients_of(adapter.deltas().values())
    plain = generate_deltas(adapter.plan, adapter.tensors(), adapter.arrays(), kind, adapter.scale, shapes)
    for mine, theirs in zip(found, gradients_of(plain), strict=True):
        assert theirs.any() and distance(mine, theirs) < 1e-5


@every_kind
@every_setting
def test_the_network_runs_with_them(setting, kind):
    base, model, adapter = attached(setting, kind)
    expected, plain = output(with_deltas(base, adapter.deltas()), INPUTS), output(base, INPUTS)
    assert distance(output(model, INPUTS), expected) < 1e-5 < 1e-2 < distance(expected, plain)
    fresh = network()
    attach(fresh, SuperLoRAConfig(**adapter.config.model_dump()))
    assert torch.equal(output(fresh, INPUTS), plain), "a fresh adapter changes nothing"


# ---------------------------------------------------------------- on disk


@every_kind
@every_setting
@pytest.mark.parametrize("store_projection", [False, True])
def test_a_round_trip(setting, kind, store_projection, tmp_path):
    base, model, adapter = attached(setting, kind)
    adapter.save_pretrained(tmp_path, store_projection=store_projection)
    extra = [path for path in tmp_path.iterdir() if path.name not in (CONFIG, WEIGHTS)]
    assert len(extra) == store_projection
    if store_projection:
        arrays = dict(adapter.named_buffers())
        stored = load_file(extra[0])
        assert stored.keys() == arrays.keys()
        assert all(torch.equal(stored[name], array) for name, array in arrays.items())
    torch.manual_seed(77)
    fresh = copy.deepcopy(base)
    assert same_deltas(load_adapter(fresh, tmp_path), adapter)
    assert torch.equal(output(fresh, INPUTS), output(model, INPUTS))


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("block_hadamard", "randint"),
        ("block_hadamard", "randperm"),
        ("gather", "randperm"),
        ("fourier", "randperm"),
    ],
)
def test_another_generator_is_refused_unless_the_arrays_were_stored(kind, call, tmp_path, monkeypatch):
    base, _, adapter = attached("vector", kind)
    adapter.save_pretrained(tmp_path / "plain")
    adapter.save_pretrained(tmp_path / "stored", store_projection=True)
    real = getattr(torch, call)
    monkeypatch.setattr(torch, call, lambda *args, **options: real(*args, **options).flip(0))
    assert "checksum" in refuses(copy.deepcopy(base), tmp_path / "plain")
    assert same_deltas(load_adapter(copy.deepcopy(base), tmp_path / "stored"), adapter)


@every_drawn_kind
def test_another_seed_is_refused(kind, tmp_path):
    base, _, adapter = attached("vector", kind)
    adapter.save_pretrained(tmp_path)
    edit(tmp_path, "seed", lambda seed: seed + 1)
    assert "checksum" in refuses(base, tmp_path)


# ---------------------------------------------------------------- compiled


# Every map and every setting twice.
@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        *((setting, kind) for setting in ("vector", "tucker") for kind in ("block_hadamard", "fourier")),
        *((setting, kind) for setting in ("runs", "weights") for kind in ("gather", "singular")),
    ],
)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_it_compiles_as_one_graph(setting, kind):
    torch._dynamo.reset()
    base, model, adapter = attached(setting, kind)
    wanted = step(model, adapter)
    assert distance(wanted[0], output(base, INPUTS)) > 0.01
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_same(step(compiled, adapter), wanted)
    fill(adapter, seed=6)
    with torch.compiler.set_stance("fail_on_recompile"):
        found = step(compiled, adapter)
    assert_same(found, step(model, adapter))
    torch._dynamo.reset()
