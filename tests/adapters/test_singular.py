"""Numbers along the base's own singular directions: the map, its transpose, its counts, and what it follows from."""

from __future__ import annotations

import copy
import json
import math
import warnings

import numpy as np
import pytest
import torch

from superlora_diffusion import AdapterBank, SuperLoRAConfig, attach, count_parameters, load_adapter
from superlora_diffusion.adapters import deltas_of_folder
from superlora_diffusion.adapters.plan import make_plan
from superlora_diffusion.adapters.projection import project, project_into, pull_back
from superlora_diffusion.adapters.singular import derive
from superlora_diffusion.adapters.slots import kind_of
from superlora_diffusion.adapters.storage import read_stored
from superlora_diffusion.errors import AdapterError

from .folder import CONFIG, refuses, same_deltas, saved
from .networks import distance, fill, inputs_for, mixed_net, output, tree

SHAPES = {
    "square": (6, 6),
    "wide": (4, 9),
    "tall": (11, 3),
    "kernel": (5, 2, 3, 1),
    "row": (1, 7),
    "vector": (7,),
}
FIELDS = dict(targets=["to_q", "to_v", "to_k"], projection="singular")


def weights_for(names, seed=0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPES[name], generator=generator) for name in names]


def by_hand(weights, directions, numbers) -> np.ndarray:
    """c U diag(x) V^T of each matrix, of a row or vector x itself; all entries one after the other."""
    pieces = []
    for weight, x in zip(weights, numbers, strict=True):
        matrix = weight.double().numpy().reshape(len(weight), -1)
        if weight.dim() == 1 or len(weight) == 1:
            pieces.append(x)
            continue
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        k = min(directions, *matrix.shape)
        pieces.append((s[:k].mean() * u[:, :k] @ np.diag(x[:k]) @ vt[:k]).reshape(-1))
    return np.concatenate(pieces)


def lengths_of(weights, directions) -> list[int]:
    return [
        weight.numel()
        if weight.shape[0] == 1 or weight.dim() == 1
        else min(directions, len(weight), weight[0].numel())
        for weight in weights
    ]


CASES = [
    (["square"], 2, False),
    (["wide", "tall", "square"], 3, False),
    (["wide", "tall", "kernel"], 4, False),
    (["wide", "tall", "kernel"], 100, True),
    (["tall", "row", "square"], 4, False),
    (["vector", "wide"], 2, True),
]
every_case = pytest.mark.parametrize(("names", "directions", "aligned"), CASES)


def prepared(names, directions, aligned):
    """Weights, arrays, and numbers as one vector and in pieces, a row of the longest each where aligned."""
    weights = weights_for(names)
    lengths = lengths_of(weights, directions)
    rows = [max(lengths)] * len(lengths) if aligned else lengths
    x = np.random.default_rng(1).normal(size=sum(rows)).astype(np.float32)
    pieces = np.split(x, np.cumsum(rows)[:-1])
    used = [piece[:length] for piece, length in zip(pieces, lengths, strict=True)]
    n = sum(weight.numel() for weight in weights)
    return weights, derive(weights, directions), torch.from_numpy(x), used, (1, n)


@every_case
def test_both_routes_are_the_decomposition_by_hand(names, directions, aligned):
    weights, arrays, x, used, grid = prepared(names, directions, aligned)
    wanted = by_hand(weights, directions, used)
    assert np.abs(wanted).max() > 0.1
    out = torch.full(grid, math.nan).view(-1)
    project_into("singular", x, out, grid, arrays)
    for found in (project("singular", x, grid, arrays), out):
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


@every_case
def test_the_transpose(names, directions, aligned):
    """<F x, g> = <x, F^T g> for each single number, and that of the readable twin."""
    _, arrays, x, _, grid = prepared(names, directions, aligned)
    grad = torch.randn(grid[1], generator=torch.Generator().manual_seed(2))
    found = pull_back("singular", grad, x, grid, arrays)
    columns = [project("singular", unit, grid, arrays) for unit in torch.eye(len(x))]
    torch.testing.assert_close(found, torch.stack(columns) @ grad, atol=1e-5, rtol=1e-5)
    assert found.abs().max() > 0.1


def test_the_arrays_are_float32_of_half_precision_weights_too():
    (weight,) = weights_for(["wide"])
    torch.set_default_dtype(torch.float64)
    try:
        arrays = derive([weight.bfloat16(), torch.ones(3)], 2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {array.dtype for array in arrays.values()} == {torch.float32}
    assert distance(arrays["left0"] @ arrays["right0"], arrays["left0"] @ derive([weight], 2)["right0"]) < 0.1


def test_signs_of_the_decomposition_do_not_matter(monkeypatch):
    (weight,) = weights_for(["square"])
    x, real = torch.randn(4), torch.linalg.svd
    one = project("singular", x, (6, 6), derive([weight], 4))

    def turned(*args, **options):
        u, s, v = real(*args, **options)
        signs = torch.tensor([1.0, -1, -1, 1, -1, 1], dtype=u.dtype)
        return u * signs, s, v * signs[:, None]

    monkeypatch.setattr(torch.linalg, "svd", turned)
    torch.testing.assert_close(project("singular", x, (6, 6), derive([weight], 4)), one)


# ---------------------------------------------------------------- counts and rows

TARGETS = [("a.to_q", 20, 30), ("a.to_v", 6, 40), ("b.to_q", 20, 30), ("b.to_v", 1, 12)]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        (dict(variant="spectral"), 8 + 6 + 8 + 12),
        (dict(variant="spectral", directions=100), 20 + 6 + 20 + 12),
        (dict(variant="spectral", groups="weight", directions=1), 1 + 1 + 1 + 12),
        (dict(variant="spectral", groups="layer"), 34),
        (dict(variant="spectral", order=2, fold="none", rank=2), 2 * (4 + 12)),
        (
            dict(variant="spectral", order=2, fold="none", rank=2, groups="shape"),
            2 * (2 + 8) + 2 * 7 + 2 * 13,
        ),
        (dict(variant="spectral", order=2, fold="square", rank=3), 2 * 3 * 6),  # 34 numbers: side 6
        (dict(variant="spectral", order=2, fold="none", core="full", rank=[4, 3]), 12 * 3 + 4 * 3),
    ],
)
def test_counts_in_closed_form(fields, count):
    config = SuperLoRAConfig(**fields)
    assert count_parameters(config, TARGETS) == count
    adapter = attach(tree([(name, (rows, columns)) for name, rows, columns in TARGETS]), config)
    assert adapter.num_parameters == count


@pytest.mark.parametrize("groups", [1, "shape"])
def test_a_row_is_a_target_and_a_column_a_direction(groups):
    """Of two factors (rows, 1) and (columns, 1), both with a single 1: one direction of one target, and no other."""
    spec = [("a.to_q", (5, 8)), ("a.to_v", (3, 9)), ("b.to_q", (5, 8)), ("b.to_v", (3, 9))]
    model = tree(spec)
    fields = dict(order=2, fold="none", rank=1, groups=groups, projection="singular", directions=5)
    adapter = attach(model, SuperLoRAConfig(**fields))
    tensors = adapter.tensors()
    places = {1: ("g0", 2, "b.to_q"), "shape": ("g1", 1, "b.to_v")}
    group, row, name = places[groups]
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.zero_()
        tensors[f"{group}_k1_a1"][row] = 1
        tensors[f"{group}_k1_a2"][1] = 1
    deltas = adapter.deltas()
    assert [other for other, delta in deltas.items() if delta.any()] == [name]
    weight = model.get_submodule(name).weight
    u, s, v = torch.linalg.svd(weight.detach(), full_matrices=False)
    torch.testing.assert_close(deltas[name].detach(), s.mean() * u[:, 1:2] @ v[1:2], atol=1e-5, rtol=1e-5)


def test_all_directions_at_one_number_are_the_whole_matrix_for_equal_singular_values():
    """Three times an orthogonal matrix: c is 3, and ones make the matrix itself. The units are the matrix's."""
    model = tree([("to_q", (6, 6))])
    torch.nn.init.orthogonal_(model.to_q.weight, gain=3.0)
    adapter = attach(model, SuperLoRAConfig(variant="spectral", directions=6, targets=["to_q"]))
    with torch.no_grad():
        adapter.g0_vector.fill_(1)
    torch.testing.assert_close(adapter.deltas()["to_q"].detach(), model.to_q.weight.detach())


@pytest.mark.parametrize("rank", [1, 3])
def test_gain_is_by_the_generated_numbers(rank):
    """m = 4 * 20 of p = 24 r: kappa is 50 roots of their ratio, and 20 x 30 weights or 60 x 60 ones are the same."""
    fields = dict(variant="spectral", order=2, fold="none", rank=rank, directions=20, step="gain")
    for side in (30, 60):
        targets = [(f"{layer}.to_{letter}", 20, side) for layer in "ab" for letter in "qv"]
        (group,) = make_plan(SuperLoRAConfig(**fields), targets).groups
        assert (group.m, group.count) == (80, 24 * rank)
        assert group.factor == pytest.approx(2500 * max(1, 80 / (24 * rank)))  # kappa squared: two tensors
    (group,) = make_plan(SuperLoRAConfig(variant="spectral", step="gain"), targets).groups
    assert group.factor == 50


# ---------------------------------------------------------------- what it follows from


def test_the_directions_are_those_of_the_base_while_another_is_merged(tmp_path):
    base, _, adapter = saved(tmp_path, "mixed", "singular")
    model = copy.deepcopy(base)
    other = attach(model, SuperLoRAConfig(variant="lora", targets=FIELDS["targets"]), name="other")
    fill(other)
    other.merge()
    assert same_deltas(load_adapter(model, tmp_path, name="second"), adapter)


def another_base(base):
    model = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    return model


def test_on_another_base_it_is_another_update_unless_its_directions_were_stored(tmp_path):
    base, _, adapter = saved(tmp_path / "plain", "mixed", "singular")
    adapter.save_pretrained(tmp_path / "stored", store_projection=True)
    with pytest.warns(UserWarning, match="lies along this network's singular directions instead"):
        plain = load_adapter(another_base(base), tmp_path / "plain")
    with pytest.warns(UserWarning, match="is added all the same"):
        stored = load_adapter(another_base(base), tmp_path / "stored")
    assert same_deltas(stored, adapter) and not same_deltas(plain, adapter)
    # What does not follow from the base it is on is stored, asked for or not.
    stored.save_pretrained(tmp_path / "again")
    assert read_stored(tmp_path / "again").has_arrays
    assert torch.equal(
        deltas_of_folder(tmp_path / "again")["blocks.0.to_q"], adapter.deltas()["blocks.0.to_q"]
    )


def test_a_base_with_another_merged_for_good_is_another_base(tmp_path):
    _, model, adapter = saved(tmp_path / "first", "mixed", "singular")
    other = attach(model, SuperLoRAConfig(variant="lora", targets=FIELDS["targets"]), name="other")
    fill(other)
    other.merge()
    other.unload(keep_merged=True)
    adapter.save_pretrained(tmp_path / "second")
    adapter_deltas = adapter.deltas()
    changed = adapter.unload()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_adapter(changed, tmp_path / "second").deltas()
    assert all(torch.equal(found[name], delta) for name, delta in adapter_deltas.items())


def test_stored_directions_that_were_changed_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    base, _, _ = saved(tmp_path, "mixed", "singular", store_projection=True)
    (file,) = [path for path in tmp_path.glob("*.safetensors") if "adapter_model" not in path.name]
    arrays = load_file(file)
    arrays["g0_left1"][0, 0] += 1e-3
    save_file(arrays, file)
    assert "singular directions stored in" in refuses(base, tmp_path)


@pytest.mark.parametrize("order", [("plain", "foreign"), ("foreign", "plain")])
def test_a_bank_keeps_stored_and_own_directions_apart(order, tmp_path):
    base, _, adapter = saved(tmp_path / "plain", "mixed", "singular")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foreign = load_adapter(another_base(base), tmp_path / "plain")
        foreign.save_pretrained(tmp_path / "foreign", store_projection=True)
        bank = AdapterBank(copy.deepcopy(base))
        for name in order:
            bank.add(name, tmp_path / name)
    for name, wanted in (("plain", adapter), ("foreign", foreign), ("plain", adapter)):
        bank.use(name)
        found = bank.deltas()
        assert all(torch.equal(found[key], delta) for key, delta in wanted.deltas().items()), name


def test_seeds_share_slots_and_directions_do_not(tmp_path):
    kinds = []
    for number, changes in enumerate((dict(seed=0), dict(seed=5), dict(directions=3))):
        folder = tmp_path / str(number)
        attach(mixed_net(), SuperLoRAConfig(**FIELDS, order=1, **changes)).save_pretrained(folder)
        kinds.append(kind_of(read_stored(folder)))
    assert kinds[0] == kinds[1] != kinds[2]


def test_nothing_but_the_numbers_is_stored(tmp_path):
    _, _, adapter = saved(tmp_path, "mixed", "singular")
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG, "adapter_model.safetensors"}
    told = json.loads((tmp_path / CONFIG).read_text())
    assert told["projection_checksum"] is None and told["parameters"] == adapter.num_parameters


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_has_no_directions(bad):
    model = mixed_net()
    with torch.no_grad():
        model.blocks[1].to_k.weight[0, 0] = bad
    with pytest.raises(AdapterError, match=r"blocks\.1\.to_k.*NaN.*another"):
        attach(model, SuperLoRAConfig(variant="spectral", targets=["to_k"]))


def test_half_precision_bases_give_nearly_the_same_updates(tmp_path):
    base, _, adapter = saved(tmp_path, "mixed", "singular")
    model = copy.deepcopy(base).bfloat16()
    found = load_adapter(model, tmp_path)
    (one, two) = (torch.cat([d.flatten() for d in each.deltas().values()]) for each in (found, adapter))
    assert 0 < distance(one, two) < 0.1
    result = output(model, inputs_for("mixed", torch.bfloat16))
    assert result.dtype == torch.bfloat16 and result.isfinite().all()
