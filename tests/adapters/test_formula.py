"""The formula of a count: its text evaluates to the count of an adapter that is really attached."""

from __future__ import annotations

import subprocess
import sys

import pytest
from arithmetic_text import check_equation, evaluate

from superlora_diffusion import SuperLoRAConfig, attach, count_parameters
from superlora_diffusion.adapters import plan as planning
from superlora_diffusion.adapters.formula import write_formula
from superlora_diffusion.adapters.plan import make_plan

from . import oracle
from .grid import COMBINATIONS
from .networks import tree, triples

PAPER = [
    (f"{block}.to_{letter}", side, side)
    for block, side in enumerate([64] * 6 + [128] * 15)
    for letter in ("q", "v")
]


def check(formula, total):
    assert check_equation(formula.text) == evaluate(formula.products) == formula.count == total
    for group in formula.groups:
        assert check_equation(group.text) == group.count


def test_every_combination_evaluates_to_the_twins_count():
    for spec, fields in COMBINATIONS.values():
        targets = triples(spec)
        formula = write_formula(SuperLoRAConfig(**fields), targets)
        check(formula, oracle.count(fields, targets))


@pytest.mark.parametrize("label", list(COMBINATIONS)[::23])
def test_it_is_the_count_of_an_attached_adapter(label):
    spec, fields = COMBINATIONS[label]
    adapter = attach(tree(spec), SuperLoRAConfig(**fields))
    formula = write_formula(adapter.config, adapter.targets)
    check(formula, adapter.num_parameters)
    assert count_parameters(adapter.config, adapter.targets) == adapter.num_parameters


def test_alike_groups_are_the_plans_groups():
    """Every index once, with the tensors, n and m that planning each group by itself gives."""
    for spec, fields in COMBINATIONS.values():
        config, targets = SuperLoRAConfig(**fields), triples(spec)
        groups = make_plan(config, targets).groups
        formula = write_formula(config, targets)
        found = {index: group for group in formula.groups for index in group.indices}
        assert sorted(found) == [group.index for group in groups]
        for group in groups:
            alike = found[group.index]
            assert (alike.n, alike.m, alike.cut) == (group.n, group.m, group.crop)
            shapes = sorted(tensor.shape for tensor in group.tensors)
            assert sorted(term.shape for term in alike.terms) == shapes


def test_the_text_of_known_settings():
    def text(**fields):
        formula = write_formula(SuperLoRAConfig(**fields), PAPER)
        return [formula.groups[0].text, formula.text, formula.products]

    # 540,672 weights in 12 runs of 45,056: the cube's side is 36
    assert text(variant="lorta", groups=12, rank=5) == [
        "A_1: 36 x 5 + A_2: 36 x 5 + A_3: 36 x 5 + core: 5 x 5 x 5 = 665",
        "12 x 665 = 7,980",
        "12 x (3 x 36 x 5 + 5 x 5 x 5)",
    ]
    assert text(variant="lora", rank=8) == [
        "A_1: 64 x 8 + A_2: 64 x 8 = 1,024",
        "12 x 1,024 + 30 x 2,048 = 73,728",
        "12 x 2 x 64 x 8 + 30 x 2 x 128 x 8",
    ]
    assert text(variant="lotr", rank=3)[0] == "A_2: 64 x 3 + A_3: 64 x 3 + core: 12 x 3 x 3 = 492"
    assert text(variant="dense", groups=1)[0] == "vector: 540,672 = 540,672"
    nested = text(splits=3, split_factor=4, rank=2, factor_all_splits=True, core="diagonal")[0]
    assert nested.startswith("B_1.A_1: 4 x 2 + B_1.A_2: 4 x 2 + B_1.core: 2 + B_2.A_1: 4 x 2 + ")
    assert nested.endswith("A_1: 46 x 2 + A_2: 46 x 2 + core: 2 = 222")


def test_the_folded_shape_is_told():
    lokr = write_formula(SuperLoRAConfig(variant="lokr", split_factor=5), PAPER).groups[0]
    assert (lokr.folded, lokr.cut) == (((5, 5), (13, 13)), (64, 64))
    stack = write_formula(SuperLoRAConfig(variant="lotr"), PAPER).groups[1]
    assert (stack.folded, stack.cut) == (((30, 128, 128),), None)


@pytest.mark.parametrize(
    ("fields", "plans"),
    [
        (dict(variant="lora"), 2),
        (dict(groups="layer"), 2),
        (dict(variant="lotr"), 2),
        (dict(variant="lorta", groups=500), 1),
    ],
)
def test_counting_plans_each_kind_of_group_once(fields, plans, monkeypatch):
    """64 or 500 groups of two shapes or one: the work is that of two groups or one."""
    targets = [(f"{i}.to_{letter}", *(((320, 320), (640, 640))[i % 2])) for i in range(32) for letter in "qv"]
    config = SuperLoRAConfig(**fields)
    in_full = make_plan(config, targets).count
    made = []
    plan_group = planning._plan_group
    monkeypatch.setattr(planning, "_plan_group", lambda *given: made.append(given) or plan_group(*given))
    assert count_parameters(config, targets) == in_full
    assert len(made) == plans


def test_closed_forms_load_no_torch():
    code = "import sys, superlora_diffusion.adapters.budget; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("variant", ["lora", "lokr", "lotr", "dense"])
def test_equal_sizes_of_other_shapes_are_counted_apart(variant):
    """64 weights each, as 4 x 16, 8 x 8 and 2 x 32: factors of other sides."""
    targets = [("a.to_q", 4, 16), ("a.to_v", 8, 8), ("b.to_q", 2, 32), ("b.to_v", 4, 16)]
    fields = dict(variant=variant)
    check(write_formula(SuperLoRAConfig(**fields), targets), oracle.count(fields, targets))
