"""What fits a budget: nothing above it, best first, each line is what it says, and nothing better was missed."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest

from superlora_diffusion import SuperLoRAConfig, count_parameters
from superlora_diffusion.adapters.budget import list_settings
from superlora_diffusion.adapters.space import FAMILIES, FINE_RATIOS, GROUPS, RANKS, settings_of
from superlora_diffusion.errors import ConfigError
from superlora_diffusion.runs.family import adapter_family
from superlora_diffusion.runs.loading import load_config

from . import oracle

# Odd sizes, two of a shape; N = 2,986.
TARGETS = [("a.to_q", 24, 40), ("a.to_v", 25, 40), ("b.to_q", 50, 18), ("b.to_v", 7, 18)]
WEIGHTS = sum(rows * columns for _, rows, columns in TARGETS)


@pytest.mark.parametrize("budget", [1, 17, 60, 250, 999, 2_985, 10**9])
def test_fits_is_sorted_and_loads_as_said(budget):
    listing = list_settings(budget, TARGETS)
    counts = [choice.count for choice in listing.choices]
    assert counts == sorted(counts, reverse=True) and 0 < counts[0] <= budget
    step = max(1, len(counts) // 12)
    for choice in (*listing.choices[:12], *listing.choices[12::step]):
        loaded = load_config("demo", [*choice.overrides, "adapter.targets=[to_q,to_v]"]).adapter
        assert count_parameters(loaded, TARGETS) == oracle.count(choice.fields, TARGETS) == choice.count
        assert choice.formula.count == choice.count
        assert loaded == choice.config


def test_settings_say_how_the_targets_were_found():
    for choice in list_settings(300, TARGETS, ["lora"], ("attention", "x"), ("to_k",)).choices:
        assert (choice.config.targets, choice.config.exclude) == (("attention", "x"), ("to_k",))


def test_families_are_what_they_are_called():
    listing = list_settings(10**9, TARGETS)
    assert {choice.family for choice in listing.choices} == set(FAMILIES)
    for choice in listing.choices:
        family = adapter_family(choice.config).removesuffix("+fastfood")
        assert family == {"order 2": "group_lora+singular"}.get(_joined(choice), choice.family)


def _joined(choice) -> str | None:
    """The only ones of a family that are called otherwise: spectral numbers by two factors."""
    return "order 2" if choice.family == "spectral" and choice.config.order == 2 else None


def _space(family):
    """The space written out once more, loop by loop."""
    yes_no = [{}, {"factor_all_splits": True}]
    projections = [{}, *({"projection": "fastfood", "ratio": ratio} for ratio in (0.5, 0.1, 0.01))]
    ranks = [{"rank": rank} for rank in RANKS]
    groups = [{"groups": groups} for groups in GROUPS]
    axes = {
        "lora": [ranks],
        "lotr": [ranks],
        "group_lora": [groups, [{}, {"fold": "none"}], projections, ranks],
        "lorta": [groups, [{"order": order} for order in (3, 4, 5)], projections, ranks],
        "lokr": [[{"split_factor": f} for f in (2, 4, 8, 16)], yes_no, ranks],
        "intrinsic": [[{"groups": 1, "projection": "fastfood", "ratio": ratio} for ratio in FINE_RATIOS]],
        "spectral": [
            [{"directions": directions} for directions in range(1, 65)]
            + [{"order": 2, "fold": "none", "directions": 64, "rank": rank} for rank in RANKS]
        ],
    }
    for values in itertools.product(*axes[family]):
        fields = {"variant": {"intrinsic": "dense"}.get(family, family)}
        yield {**fields, **{name: value for part in values for name, value in part.items()}}


def _sensible_count(fields) -> int | None:
    """The twin's count, or None for a setting that spends too much on a tensor, or on all."""
    given = oracle.resolve(fields)
    if (
        isinstance(given["groups"], int)
        and (given["groups"] - 1) * math.ceil(WEIGHTS / given["groups"]) >= WEIGHTS
    ):
        return None
    if given["order"] > 1:
        for group in oracle.grouping(given, TARGETS):
            for part in oracle.parts(given, group, TARGETS):
                spent = sum(math.prod(shape) for shape in part.names(0, given["core"]).values())
                if part.ranks is not None and spent >= math.prod(part.sides):
                    return None
    count = oracle.count(fields, TARGETS)
    return count if count < WEIGHTS else None


@pytest.fixture(scope="module")
def brute_force():
    """{family: counts of all its sensible settings}, by loops and the twin alone."""
    found = {}
    for family in ("lora", "lotr", "lokr", "intrinsic", "spectral"):
        counts = [_sensible_count(fields) for fields in _space(family)]
        found[family] = {count for count in counts if count is not None}
    return found


@pytest.mark.parametrize("budget", [10, 123, 400, 777, 1_500, 2_900])
def test_brute_force_finds_nothing_better(budget, brute_force):
    for family, counts in brute_force.items():
        fitting = {count for count in counts if count <= budget}
        if not fitting:
            with pytest.raises(ConfigError, match=f"{min(counts):,}"):
                list_settings(budget, TARGETS, [family])
            continue
        listing = list_settings(budget, TARGETS, [family])
        assert listing.choices[0].count == max(fitting)
        assert {choice.count for choice in listing.choices} == fitting
    together = list_settings(budget, TARGETS, brute_force)
    assert together.choices[0].count == max(
        c for counts in brute_force.values() for c in counts if c <= budget
    )


def test_the_space_is_what_it_says():
    for family in ("lora", "lotr", "lokr", "lorta", "group_lora", "intrinsic", "spectral"):
        assert list(settings_of(family)) == list(_space(family))


def _what_it_does(fields):
    """Tensors, slots and projection: equal for two names of one setting."""
    given = oracle.resolve(fields)
    groups = oracle.grouping(given, TARGETS)
    numbers = tuple(oracle.generated(given, group, TARGETS) for group in groups)
    slots = tuple(tuple(group.slots) for group in groups)
    folded = tuple(oracle.folding(given, group, TARGETS) for group in groups) if given["order"] > 1 else None
    shapes = tuple(sorted(oracle.parameter_shapes(fields, TARGETS).items()))
    rows = [oracle.stretches(given, group, TARGETS) for group in groups]
    directions = str(rows) if given["projection"] == "singular" else None
    return shapes, slots, numbers, folded, given["projection"], directions


def test_no_setting_comes_twice():
    listing = list_settings(600, TARGETS)
    assert len(listing.choices) > 100
    done = [_what_it_does(choice.fields) for choice in listing.choices]
    assert len(set(done)) == len(done)
    # one matrix: a group of its own and one group of everything are the same
    single = list_settings(10**6, [("a.to_q", 40, 40)], ["lora", "group_lora"]).choices
    plain = [choice for choice in single if choice.config.projection == "none" and choice.config.rank == 3]
    assert [choice.text for choice in plain if choice.count == 240] == ["lora, rank 3"]


def test_equal_counts_come_plainest_first():
    listing = list_settings(10**9, TARGETS).choices
    pairs = [(a, b) for a, b in itertools.pairwise(listing) if a.count == b.count]
    assert len(pairs) > 50
    assert all(len(a.fields) <= len(b.fields) for a, b in pairs)


def test_overrides_say_no_more_than_the_variant_leaves_open():
    listing = list_settings(10**9, TARGETS, ["lorta", "intrinsic"]).choices
    lines = {" ".join(choice.overrides) for choice in listing}
    assert "adapter.variant=lorta adapter.rank=5" in lines
    assert "adapter.variant=lorta adapter.groups=12 adapter.order=4 adapter.rank=2" in lines
    assert "adapter.variant=dense adapter.groups=1 adapter.projection=fastfood adapter.ratio=0.07" in lines
    m = next(c.count for c in listing if c.overrides[-1] == "adapter.ratio=0.07")
    assert m == math.ceil(Fraction(7, 100) * WEIGHTS)


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_of_nothing_is_refused(budget):
    with pytest.raises(ConfigError, match=rf"budget: got {budget}: at least one"):
        list_settings(budget, TARGETS)


def test_an_unknown_family_is_told_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"families: got 'lorra'. Did you mean 'lora'\? Accepted: lora, lorta"
    ):
        list_settings(100, TARGETS, ["lora", "lorra"])


def test_where_nothing_fits_the_smallest_is_told():
    smallest = min(count_parameters(SuperLoRAConfig(variant="lotr", rank=r), TARGETS) for r in (1, 2, 3))
    with pytest.raises(ConfigError) as told:
        list_settings(smallest - 1, TARGETS, ["lotr"])
    assert f"got {smallest - 1}: no setting of lotr is that small" in str(told.value)
    assert f"trains {smallest:,}: adapter.variant=lotr adapter.rank=1" in str(told.value)
    with pytest.raises(ConfigError, match="fewer numbers than the targets hold"):
        list_settings(5, [("a.to_q", 1, 1)], ["lora"])
    assert list_settings(smallest, TARGETS, ["lotr"]).choices[0].count == smallest
