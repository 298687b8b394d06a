"""How far one step moves an update: measured on attached adapters, against what the setting's ``step`` promises."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch

from superlora_diffusion import SuperLoRAConfig, attach, load_adapter
from superlora_diffusion.adapters import deltas_of_folder
from superlora_diffusion.adapters.generation import generate_deltas
from superlora_diffusion.adapters.plan import make_plan
from superlora_diffusion.adapters.steps import GAIN_EXPONENT, step_rms
from superlora_diffusion.adapters.storage import read_stored
from superlora_diffusion.adapters.variants import LEARNING_RATES, ONE_RATE, VARIANTS
from superlora_diffusion.errors import ConfigError
from superlora_diffusion.exchange.factors import factor_adapter

from . import oracle
from .banks import Banked
from .folder import CONFIG
from .networks import LINEAR_WIDTH, fields_for, fill, inputs_for, linear_net, mixed_net, output, tree

# Two sizes, since g holds neither N nor a side; odd sides, so that folds are cut.
SIZES = {
    size: [
        (f"block{i}.to_{letter}", (rows * size, columns * size + 1))
        for i, (rows, columns) in enumerate([(24, 17), (17, 30), (24, 17)])
        for letter in "qv"
    ]
    for size in (1, 3)
}

SETTINGS = [
    dict(variant="dense"),
    dict(order=1, groups=2, projection="block_hadamard", ratio=0.05),
    dict(order=1, projection="fastfood", ratio=0.3),
    dict(order=1, projection="gather", ratio=0.3),
    dict(order=1, groups="weight", projection="fourier", ratio=0.8),
    dict(variant="lora"),
    dict(variant="lora", rank=1),
    dict(variant="lora", rank=6, core="diagonal"),
    dict(variant="lora", rank=5, core="full"),
    dict(variant="group_lora", side_multiple=8),
    dict(groups="layer", order=3, rank=8),
    dict(order=3, rank=12, core="diagonal", groups=2),
    dict(order=4, rank=5, groups=2, projection="fastfood", ratio=0.5),
    dict(variant="lorta"),
    dict(variant="lorta", rank=7, projection="block_hadamard", ratio=0.2),
    dict(variant="lorta", rank=["full", 3, 6], projection="shuffle"),
    dict(variant="lorta", rank=4, projection="fastfood_tanh", ratio=0.4),
    dict(order=3, core="full", rank=["full", "full", "full"]),
    dict(variant="lotr"),
    dict(variant="lotr", core="identity", rank=6),
    dict(variant="lokr"),
    dict(variant="lokr", core="diagonal", rank=3, factor_all_splits=True),
    dict(variant="lonkr", core="full", rank=3, factor_all_splits=True),
    dict(variant="lonkr", split_factor=8, rank=9, factor_all_splits=True),
    dict(variant="lonkr", split_factor=5, rank=7, factor_all_splits=True, core="full"),
]
LR = 1e-4


def _id(fields) -> str:
    return ",".join(f"{name}={value}" for name, value in fields.items())


@torch.no_grad()
def move(adapter, seed: int) -> None:
    """Adam's first step: LR times a sign, on every trained number."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        parameter += LR * (torch.randint(0, 2, parameter.shape, generator=generator) * 2 - 1)


def seeds_for(fields) -> int:
    """How many starts come near their mean: plain ones, and factored B_k, are far from it."""
    fields = oracle.resolve(fields)
    if fields["factor_all_splits"]:
        return 400
    if fields["step"] != "plain":
        return 10
    return 150 if fields["splits"] > 1 else 60 if fields["order"] > 2 else 10


@torch.no_grad()
def measured(spec, fields, seeds: int) -> float:
    """Root-mean-square entry of all dW after one step, in units of LR, over starts, maps and signs."""
    squares = []
    for seed in range(seeds):
        adapter = attach(tree(spec), SuperLoRAConfig(**fields, seed=seed))
        assert not any(delta.any() for delta in adapter.deltas().values()), "the start is exactly nothing"
        move(adapter, seed)
        squares.append(torch.cat([d.flatten() for d in adapter.deltas().values()]).square().mean())
    return float(torch.stack(squares).mean().sqrt()) / LR


def promised(spec, fields) -> float:
    """1, or for gain the root of the mean of n/p over all weights, by the twin's groups."""
    if fields["step"] == "rms":
        return 1.0
    targets = [(name, *shape) for name, shape in spec]
    fields, total = oracle.resolve(fields), 0.0
    for g, group in enumerate(oracle.grouping(fields, targets)):
        p = sum(math.prod(shape) for shape in oracle.group_shapes(fields, group, g, targets).values())
        total += len(group.slots) * max(1, group.n / p)
    return math.sqrt(total / sum(rows * columns for _, rows, columns in targets))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fields", SETTINGS, ids=_id)
def test_one_step_moves_every_setting_by_lr(fields, size):
    fields = {**fields, "step": "rms"}
    assert measured(SIZES[size], fields, seeds_for(fields)) == pytest.approx(1, rel=0.06)


@pytest.mark.parametrize("init_std", [0.03, 1.7])
@pytest.mark.parametrize("fields", SETTINGS[3::2], ids=_id)
def test_where_the_start_is_given_a_factor_does_it(fields, init_std):
    fields = {**fields, "step": "rms", "init_std": init_std}
    assert measured(SIZES[1], fields, seeds_for(fields)) == pytest.approx(1, rel=0.08)


@pytest.mark.parametrize("fields", SETTINGS[::2], ids=_id)
def test_gain_moves_it_by_the_root_of_weights_over_numbers(fields):
    fields = {**fields, "step": "gain"}
    expected = promised(SIZES[1], fields)
    assert measured(SIZES[1], fields, seeds_for(fields)) == pytest.approx(expected, rel=0.08)
    assert fields.get("variant") == "dense" or abs(expected - 1) > 0.1


def test_the_exponent_of_gain_is_the_one_that_was_derived():
    assert GAIN_EXPONENT == 0.5


@pytest.mark.parametrize("fields", SETTINGS, ids=_id)
def test_plain_steps_are_what_g_says(fields):
    """The closed form at starts where it is not 1, those of plain steps."""
    spec = SIZES[1]
    config = SuperLoRAConfig(**fields)
    plan = make_plan(config, [(name, *shape) for name, shape in spec])
    assert {group.factor for group in plan.groups} == {1.0}
    total = sum(group.n for group in plan.groups)
    expected = math.sqrt(sum(group.n * step_rms(group) ** 2 for group in plan.groups) / total)
    near = 0.12 if config.factor_all_splits else 0.08  # products of many drawn numbers have long tails
    assert measured(spec, fields, seeds_for(fields)) == pytest.approx(expected, rel=near)


@pytest.mark.parametrize(
    ("fields", "g"),
    [
        (dict(variant="dense"), 1),
        (dict(variant="lora"), 1),  # sqrt(8) / sqrt(8)
        (dict(order=3, rank=16), 1 / 4),  # sqrt(16) / 16
        (dict(order=3, rank=16, init_std=0.5), 1),  # sqrt(16) / 4
        (dict(order=4, rank=4, core="diagonal"), 1 / 8),  # sqrt(4) / 4^2
        (dict(variant="lorta"), 1),
        (dict(variant="lorta", rank=["full", 4, 9], init_std=1.0), 6),
        (dict(variant="lokr"), 8**-0.5),
        (dict(variant="lonkr"), 1 / 6),
        (dict(variant="lonkr", factor_all_splits=True), 1 / 4),  # each B_k: sqrt(4) / 4
        (dict(variant="lonkr", factor_all_splits=True, core="full"), 1),
        (dict(variant="lonkr", factor_all_splits=True, core="full", rank=6), 1 / 6),  # B_k is its core alone
    ],
    ids=str,
)
def test_g_by_hand(fields, g):
    targets = [(name, *shape) for name, shape in SIZES[3]]
    groups = make_plan(SuperLoRAConfig(**fields), targets).groups
    assert [step_rms(group) for group in groups] == pytest.approx([g] * len(groups))
    given = fields.get("init_std") is not None
    for step in ("rms", "gain"):
        stepped = make_plan(SuperLoRAConfig(**fields, step=step), targets).groups
        alpha = GAIN_EXPONENT if step == "gain" else 0
        kappas = [max(1, group.n / group.count) ** alpha for group in groups]
        sizes = [len(list(group.tensors)) for group in groups]
        expected = [kappa**size / (g if given else 1) for kappa, size in zip(kappas, sizes, strict=True)]
        assert [group.factor for group in stepped] == pytest.approx(expected)
        moved = [group.factor * step_rms(group) for group in stepped]  # by the first step, per lr
        assert moved == pytest.approx(kappas)


@pytest.mark.parametrize(
    "fields",
    [dict(variant="lorta", rank=3), dict(variant="lonkr"), dict(rank=3, core="diagonal"), dict(init_std=0.3)],
    ids=str,
)
def test_gain_is_rms_at_another_rate(fields):
    """Adam does not see the size of gradients: what is held as a kappa-th moves as at kappa times the rate."""
    spec, made = SIZES[1], {}
    group = make_plan(SuperLoRAConfig(**fields, groups=1), [(name, *shape) for name, shape in spec]).groups[0]
    kappa = math.sqrt(group.n / group.count)
    for step, rate in (("rms", kappa * 1e-3), ("gain", 1e-3)):
        adapter = attach(tree(spec), SuperLoRAConfig(**fields, groups=1, step=step))
        optimizer = torch.optim.Adam(adapter.parameters(), lr=rate, eps=1e-30)
        for number in range(5):
            target = torch.Generator().manual_seed(number)
            wanted = [torch.randn(delta.shape, generator=target) for delta in adapter.deltas().values()]
            pairs = zip(adapter.deltas().values(), wanted, strict=True)
            optimizer.zero_grad()
            sum((delta - want).square().sum() for delta, want in pairs).backward()
            optimizer.step()
        made[step] = torch.cat([delta.detach().flatten() for delta in adapter.deltas().values()])
    assert kappa > 1.5 and float(made["rms"].abs().max()) > kappa * 1e-3
    torch.testing.assert_close(made["gain"], made["rms"], rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("groups", [1, "weight"])
@pytest.mark.parametrize("directions", [3, 40])
def test_along_singular_directions_gain_is_fifty_times_the_rate(directions, groups):
    """By hand: a step of lr moves each of the numbers by fifty times lr, however many they are; rms by lr."""
    spec = SIZES[1]
    for step, expected in (("plain", 1.0), ("rms", 1.0), ("gain", 50.0)):
        config = SuperLoRAConfig(variant="spectral", directions=directions, groups=groups, step=step)
        network = tree(spec)
        weights = {name: network.get_submodule(name).weight.detach().double() for name, _ in spec}
        adapter = attach(network, config)
        move(adapter, 0)
        for name, delta in adapter.deltas().items():
            u, s, v = torch.linalg.svd(weights[name], full_matrices=False)
            k = min(directions, *weights[name].shape)
            moved = (u[:, :k].T @ delta.double() @ v[:k].T).diagonal().abs() / s[:k].mean() / LR
            torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-3, atol=0)


def test_plain_starts_are_what_they_were():
    """Variance 1/rank for factors, 1/split_factor for B_k: stored seeds go on making the same starts."""
    targets = [(name, *shape) for name, shape in SIZES[1]]

    def stds(**fields):
        group = make_plan(SuperLoRAConfig(**fields), targets).groups[0]
        return [tensor.std for tensor in group.tensors]

    assert stds(order=3, rank=16) == [0, 0.25, 0.25]
    assert stds(order=3, rank=16, step="rms") == [0, 0.5, 0.5]
    assert stds(order=2, rank=16, core="diagonal") == [0, 0.25, 0.25]
    assert stds(variant="lonkr", split_factor=4, core="full", rank=4) == [0.5, 0.5, 0]
    assert stds(variant="lonkr", split_factor=4, core="full", rank=4, factor_all_splits=True)[:2] == [
        0.5,
        0.5,
    ]
    assert stds(variant="lonkr", split_factor=4, step="rms")[:2] == [1, 1]
    held = stds(variant="lonkr", split_factor=4, step="gain")[:2]
    group = make_plan(SuperLoRAConfig(variant="lonkr", split_factor=4), targets).groups[0]
    assert held == pytest.approx([min(1, group.count / group.n) ** 0.5] * 2) and held[0] < 0.9


def test_starts_of_steps_that_are_not_plain_are_even():
    """Each column of a factor and all of a B_k have the standard deviation exactly, also where it is given."""
    fields = dict(variant="lonkr", rank=3, split_factor=4, core="diagonal")
    for step, given, std in [("rms", None, 3**-0.25), ("rms", 0.2, 0.2)]:
        adapter = attach(tree(SIZES[1]), SuperLoRAConfig(**fields, step=step, init_std=given))
        numbers = {name: parameter.detach() for name, parameter in adapter.named_parameters()}
        for name in ("g0_k3_a1", "g0_k3_a2"):
            torch.testing.assert_close(numbers[name].square().mean(0).sqrt(), torch.full((3,), std))
        for name in ("g0_k1_b", "g0_k2_b"):
            rows = numbers[name].square().mean(0).sqrt()
            assert float(numbers[name].square().mean().sqrt()) == pytest.approx(given or 1)
            assert float(rows.std()) > 0.01 * float(rows.mean()), "only the whole is even"
    plain = attach(tree(SIZES[1]), SuperLoRAConfig(**fields)).tensors()["g0_k3_a1"].detach()
    assert float(plain.square().mean(0).sqrt().std()) > 0.01


@pytest.mark.parametrize("init_std", [1e-200, 1e200])
def test_a_start_that_no_factor_can_mend_is_refused(init_std):
    targets = [(name, *shape) for name, shape in SIZES[1]]
    config = dict(order=5, rank=2, init_std=init_std)
    make_plan(SuperLoRAConfig(**config), targets)
    with pytest.raises(ConfigError, match=r"init_std: got 1e[+-]200.*step 'rms' cannot mend; use a value"):
        make_plan(SuperLoRAConfig(**config, step="rms"), targets)


def test_one_rate_for_all_but_plain():
    for variant in VARIANTS:
        assert SuperLoRAConfig(variant=variant).learning_rate == LEARNING_RATES[variant]
        for step, rate in ONE_RATE.items():
            assert SuperLoRAConfig(variant=variant, step=step).learning_rate == rate
    assert set(ONE_RATE) == {"rms", "gain"}
    with pytest.raises(ConfigError, match="step"):
        SuperLoRAConfig(step="fast")


# --- whoever reads an update sees the same one ---

READ = {
    "lora": dict(variant="lora", rank=3, step="gain"),
    "diagonal": dict(variant="lora", rank=3, core="diagonal", step="rms", init_std=0.2),
    "lotr": dict(variant="lotr", rank=2, step="gain", scale=-2.0),
    "square": dict(groups=2, rank=3, step="gain"),
    "kron": dict(variant="lokr", split_factor=2, rank=2, step="rms", init_std=0.5),
    "tanh": dict(groups=2, order=3, projection="fastfood_tanh", ratio=0.3, step="gain", init_std=0.4),
}


def filled(setting, **more):
    """A network as it was, with an adapter, and that, none of whose factors is 1."""
    model = linear_net()
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**READ[setting], **more))
    fill(adapter)
    assert all(abs(group.factor - 1) > 0.05 for group in adapter.plan.groups)
    return base, model, adapter


def close(found, expected) -> None:
    assert list(found) == list(expected)
    for name, delta in expected.items():
        assert float(delta.abs().max()) > 1e-3
        torch.testing.assert_close(found[name], delta, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("setting", READ)
def test_exports_folders_and_merging_see_the_updates(setting, tmp_path):
    base, _, adapter = filled(setting)
    deltas = {name: delta.detach() for name, delta in adapter.deltas().items()}
    pairs = factor_adapter(adapter)
    exact = setting in ("lora", "diagonal", "lotr")
    for factored in pairs:
        delta = deltas[factored.name]
        error = torch.linalg.norm(factored.pair.up @ factored.pair.down - delta) / torch.linalg.norm(delta)
        assert error < (1e-5 if exact else 0.0101)
    adapter.save_pretrained(tmp_path)
    close(deltas_of_folder(tmp_path), deltas)
    other = load_adapter(base, tmp_path)
    close({name: delta.detach() for name, delta in other.deltas().items()}, deltas)
    before = {name: base.get_submodule(name).weight.detach().clone() for name in deltas}
    other.merge()
    close({name: base.get_submodule(name).weight.detach() - before[name] for name in deltas}, deltas)


@pytest.mark.parametrize("setting", READ)
def test_what_a_compiler_is_given_sees_the_updates(setting):
    _, _, adapter = filled(setting)
    shapes = [layer.weight.shape for layer in map(adapter.layer_of, range(len(adapter.targets)))]
    kind, tensors = adapter.config.projection, adapter.tensors()
    traced = generate_deltas(adapter.plan, tensors, adapter.arrays(), kind, adapter.scale, shapes)
    names = [target.name for target in adapter.targets]
    found = dict(zip(names, (delta.detach() for delta in traced), strict=True))
    close(found, {name: delta.detach() for name, delta in adapter.deltas().items()})


@pytest.mark.parametrize("setting", ["lora", "diagonal", "lotr"])
def test_products_see_the_updates(setting):
    outputs = []
    for route in ("weight", "products"):
        _, model, adapter = filled(setting, route=route)
        inputs = {"x": torch.randn(2, 3, LINEAR_WIDTH, generator=torch.Generator().manual_seed(5))}
        loss = output(model, inputs).square().mean()
        loss.backward()
        outputs.append([output(model, inputs).detach(), *(p.grad for p in adapter.parameters())])
        with adapter.disabled():
            assert (output(model, inputs) - outputs[-1][0]).abs().max() > 1e-3
    for one, two in zip(*outputs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_adapters_of_other_factors_are_other_kinds_of_a_bank(tmp_path):
    made, inputs = Banked(tmp_path), inputs_for("mixed")
    step = {"step": "rms"}
    made.add("a", "lora", seed=1, fields=step)
    made.add("b", "lora", seed=2, fields={**step, "init_std": 0.2})
    made.add("c", "lora", seed=3, fields={**step, "init_std": 3.0})
    made.add("d", "lora", seed=4, fields={"step": "gain"})
    for name in "abcd":
        made.bank.use(name)
        torch.testing.assert_close(*made.outputs({name: 1.0}, inputs), rtol=1e-4, atol=1e-5)


def test_a_folder_carries_the_step_and_without_it_means_plain(tmp_path):
    model = mixed_net()
    adapter = attach(model, SuperLoRAConfig(**fields_for("mixed", "lora"), step="gain"))
    fill(adapter)
    adapter.save_pretrained(tmp_path)
    described = json.loads((tmp_path / CONFIG).read_text())
    assert described["config"].pop("step") == "gain"
    factors = {group.factor for group in adapter.plan.groups}
    assert len(factors) > 1
    (tmp_path / CONFIG).write_text(json.dumps(described))
    config = read_stored(tmp_path).config
    assert config.step == "plain" and "step" in config.model_fields_set, "whatever the default will be"
    expected = {name: delta.detach() for name, delta in adapter.deltas().items()}
    for (name, delta), group in zip(deltas_of_folder(tmp_path).items(), adapter.plan.groups, strict=True):
        torch.testing.assert_close(delta * group.factor, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("setting", ["fastfood", "group", "lora"])
def test_a_real_step_of_adam_moves_it_by_lr(setting):
    """With a loss and its own signs, which are not random, so that it is but near."""
    model = mixed_net()
    adapter = attach(model, SuperLoRAConfig(**fields_for("mixed", setting), step="rms"))
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=LR, weight_decay=0.0, eps=1e-30)
    output(model, inputs_for("mixed")).square().mean().backward()
    optimizer.step()
    moved = torch.cat([delta.detach().flatten() for delta in adapter.deltas().values()])
    assert float(moved.square().mean().sqrt()) / LR == pytest.approx(1, rel=0.3)
