"""The legal combinations the oracle is compared on: every axis crossed, the small numbers varied along."""

from __future__ import annotations

import itertools
import random

# Odd, non-square, no side divides another. N = 129 and 322; a run of 4 or 7 (5) is cut at the end.
LINEAR = [
    ("blocks.0.attn.to_q", (7, 5)),
    ("blocks.0.attn.to_v", (3, 11)),
    ("blocks.1.attn.to_q", (7, 5)),
    ("blocks.1.attn.to_v", (13, 2)),
]
# A (4, 3, 3, 3) kernel and a (4, 27) matrix are one shape; the order of the modules is not the alphabet's.
CONV = [
    ("up.to_q", (4, 3, 3, 3)),
    ("up.to_v", (5, 7)),
    ("down.to_v", (4, 27)),
    ("down.to_q", (6, 2, 1, 3)),
    ("mid.to_q", (5, 7)),
]

SPECS = {
    "linear": (LINEAR, ["weight", "layer", "shape", 1, 3, 4, 7]),
    "conv": (CONV, ["weight", "shape", 1, 5]),
}

FOLDINGS = [
    dict(order=1),
    *(dict(order=2, fold=fold, splits=k) for fold in ("none", "square") for k in (1, 2, 3)),
    *(dict(order=order, fold="square") for order in (3, 4, 5)),
]
CORES = ["identity", "diagonal", "full"]
PROJECTIONS = [
    dict(projection="none"),
    dict(projection="shuffle"),
    dict(projection="fastfood", ratio=1.0),
    dict(projection="fastfood", ratio=0.37),
    dict(projection="fastfood_tanh", ratio=0.07),
    dict(projection="gather", ratio=0.37),
    dict(projection="fourier"),
]


def _small_numbers(fields: dict, choose: random.Random) -> dict:
    """Ranks below and above the sides, per-mode lists, multiples, splits, seeds and scales."""
    order = fields["order"]
    extra = dict(seed=choose.choice([0, 3, 2**40 + 1]), scale=choose.choice([1, -0.5, 2.5]))
    if fields["projection"] == "fourier":
        extra["ratio"] = choose.choice([0.2, 0.7, 1.0])  # cosines alone, some of the sines, all
    if order == 1:
        return extra
    extra["rank"] = choose.choice([1, 2, 3, 5, 11])
    if fields["core"] == "full" and choose.random() < 0.5:
        extra["rank"] = [choose.choice([1, 2, 4, 30, "full"]) for _ in range(order)]
    if fields["fold"] == "square":
        extra["side_multiple"] = choose.choice([1, 1, 3, 4])
    if fields.get("splits", 1) > 1:
        extra["split_factor"] = choose.choice([2, 3])
        extra["factor_all_splits"] = choose.random() < 0.5
    return extra


def _combinations():
    choose = random.Random(2403)
    for spec, (_, groupings) in SPECS.items():
        for groups, folding, core, projection in itertools.product(groupings, FOLDINGS, CORES, PROJECTIONS):
            if folding["order"] == 1 and core != "identity":
                continue
            fields = dict(groups=groups, **folding, core=core, **projection)
            yield spec, fields | _small_numbers(fields, choose)
        for core, projection in itertools.product(CORES, PROJECTIONS):
            fields = dict(groups="shape", order=3, fold="stack", core=core, **projection)
            yield spec, fields | _small_numbers(fields, choose)


def _singular():
    """Along the base's own directions: of every grouping that ends at matrix borders; of four, one has a step."""
    choose = random.Random(2303)
    for spec, (_, groupings) in SPECS.items():
        legal = [groups for groups in groupings if groups == 1 or isinstance(groups, str)]
        for number, (groups, folding) in enumerate(itertools.product(legal, FOLDINGS)):
            core = choose.choice(CORES) if folding["order"] > 1 else "identity"
            fields = dict(groups=groups, **folding, core=core, projection="singular")
            fields["directions"] = choose.choice([1, 2, 4, 6, 30])
            fields |= _small_numbers(fields, choose)
            yield spec, fields | (dict(step="gain", init_std=0.3) if number % 4 == 3 else {})


def _stepped(combinations):
    """Some of them again with steps that are not plain; without an init_std only gain has a factor.

    Every eighth: a stride that divides none of the axes, or it would always meet the same projection.
    """
    steps = itertools.cycle(
        [dict(step="rms", init_std=0.3), dict(step="gain"), dict(step="gain", init_std=0.3)]
    )
    for (spec, fields), step in zip(list(combinations)[::8], steps, strict=False):
        yield spec, fields | step


def _label(spec: str, fields: dict) -> str:
    return spec + "-" + ",".join(f"{name}={value}" for name, value in fields.items()).replace(" ", "")


COMBINATIONS = {
    _label(spec, fields): (SPECS[spec][0], fields)
    for spec, fields in itertools.chain(_combinations(), _stepped(_combinations()), _singular())
}
