"""Defaults, named variants, and every refusal."""

from __future__ import annotations

import math
import re

import pytest

from superlora_diffusion import SuperLoRAConfig, attach, count_parameters
from superlora_diffusion.errors import ConfigError, SuperLoRAError

from . import oracle
from .networks import tree

FIELDS = list(oracle.DEFAULTS)


def filled(config) -> dict:
    values = {name: getattr(config, name) for name in FIELDS}
    return values | {"targets": list(values["targets"])}


def test_defaults():
    assert filled(SuperLoRAConfig()) == oracle.DEFAULTS


@pytest.mark.parametrize("variant", oracle.VARIANTS)
def test_a_variant_fills_its_fields_and_no_others(variant):
    assert filled(SuperLoRAConfig(variant=variant)) == oracle.DEFAULTS | oracle.VARIANTS[variant]


@pytest.mark.parametrize("variant", oracle.VARIANTS)
def test_explicit_fields_win_even_where_they_say_the_default(variant):
    """rank 4 is the default, and still beats the variant's 8; likewise every other field."""
    for name in oracle.VARIANTS[variant]:
        if variant == "lotr" and name != "rank":
            continue  # stack, groups, order and a list-like rank hang together
        value = {"order": 2, "rank": 4, "fold": "square", "core": "identity", "groups": 3, "splits": 1}.get(
            name, oracle.DEFAULTS[name]
        )
        if (variant, name) == ("spectral", "groups"):
            value = "weight"  # runs may not cut across matrices
        config = SuperLoRAConfig(variant=variant, **{name: value})
        assert filled(config) == oracle.resolve({"variant": variant, name: value})


@pytest.mark.parametrize("variant", [*oracle.VARIANTS, None])
def test_a_dump_makes_the_same_config_again(variant):
    config = SuperLoRAConfig(variant=variant, seed=7) if variant else SuperLoRAConfig(seed=7)
    assert filled(SuperLoRAConfig(**config.model_dump())) == filled(config)
    assert filled(SuperLoRAConfig.model_validate_json(config.model_dump_json())) == filled(config)


def test_legal_values_that_look_odd():
    assert SuperLoRAConfig(scale=-2.5).scale == -2.5
    assert [*SuperLoRAConfig(core="full", rank=[3, "full"]).rank] == [3, "full"]
    assert SuperLoRAConfig(projection="fastfood", ratio=1).ratio == 1
    for projection in ("gather", "fourier"):
        assert SuperLoRAConfig(projection=projection, ratio=1e-9).ratio == 1e-9
    assert SuperLoRAConfig(variant="spectral", groups="shape", directions=500).directions == 500
    assert SuperLoRAConfig(variant="spectral", order=2, splits=2, directions=1).splits == 2
    assert SuperLoRAConfig(projection="gather", directions=8).directions == 8
    assert SuperLoRAConfig(order=1, fold="none").order == 1
    assert SuperLoRAConfig(groups=3, order=2, fold="none", splits=3).splits == 3
    assert SuperLoRAConfig(groups="shape", fold="stack", order=3, core="diagonal", rank=50).rank == 50


NOT_FINITE = [math.nan, math.inf, -math.inf]

# (fields, the field at fault, words of what is accepted)
BAD_VALUES = [
    *((dict(groups=value), "groups", ["weight", "layer", "shape"]) for value in ("wieght", 0, -2, 1.5, True)),
    *((dict(order=value), "order", []) for value in (0, -1, 2.5, "two", True)),
    *((dict(fold=value), "fold", ["none", "square", "stack"]) for value in ("squre", 3)),
    *((dict(side_multiple=value), "side_multiple", ["1"]) for value in (0, -4, 1.5)),
    *((dict(rank=value), "rank", []) for value in (0, -3, 2.5, "many", "full", True)),
    *((dict(core="full", rank=value), "rank", ["full"]) for value in ([0, 2], [2, -1], ["ful", 2], [1.5, 2])),
    *((dict(core="full", rank=value), "rank", ["2"]) for value in ([2], [3, 3, 3], [])),  # 2 modes
    *((dict(core=value), "core", ["identity", "diagonal", "full"]) for value in ("cp", 1)),
    *((dict(splits=value), "splits", ["1"]) for value in (0, -1, 1.5)),
    *((dict(splits=2, split_factor=value), "split_factor", []) for value in (0, -6, 2.5)),
    (dict(factor_all_splits="perhaps"), "factor_all_splits", []),
    (
        dict(projection="hadamard"),
        "projection",
        ["none", "shuffle", "fastfood", "fastfood_tanh", "gather", "fourier", "singular"],
    ),
    *((dict(projection="fastfood", ratio=value), "ratio", ["0"]) for value in (0, -0.5, -math.inf)),
    *((dict(projection="fastfood", ratio=value), "ratio", ["1"]) for value in (1.5, math.nan, math.inf)),
    (dict(projection="fastfood", ratio="half"), "ratio", []),
    *((dict(projection="singular", directions=value), "directions", []) for value in (0, 1.5, "all")),
    *((dict(seed=value), "seed", []) for value in (1.5, "zero")),
    *((dict(scale=value), "scale", []) for value in (0, 0.0, *NOT_FINITE, "big")),
    *((dict(init_std=value), "init_std", []) for value in (0, -1.0, *NOT_FINITE, "small")),
    *((dict(targets=value), "targets", []) for value in ([], [3], [""])),
    (dict(variant="lorra"), "variant", ["lora", "lorta", "dense", "lonkr", "lokr", "lotr", "group_lora"]),
]

COMBINATIONS = [
    (dict(order=1, splits=2), ["order", "splits"]),
    (dict(order=3, splits=2), ["order", "splits"]),
    (dict(order=4, splits=3), ["order", "splits"]),
    (dict(order=3, fold="none"), ["order", "fold"]),
    (dict(order=5, fold="none"), ["order", "fold"]),
    *(
        (dict(order=3, fold="stack", groups=groups), ["fold", "groups"])
        for groups in ("weight", "layer", 1, 4)
    ),
    (dict(order=2, fold="stack", groups="shape"), ["fold", "order"]),
    (dict(order=4, fold="stack", groups="shape"), ["fold", "order"]),
    *((dict(core=core, rank=[2, 3]), ["rank", "core"]) for core in ("identity", "diagonal")),
    *(
        (fields, ["ratio", "projection", "block_hadamard", "gather", "fourier", "fastfood"])
        for fields in (dict(projection="none", ratio=0.5), dict(projection="shuffle", ratio=0.99))
    ),
    (dict(variant="spectral", ratio=0.5), ["ratio", "singular", "directions"]),
    (dict(projection="singular", groups=2), ["groups", "singular", "'weight'", "'layer'", "'shape'"]),
    (dict(variant="lotr", projection="singular"), ["fold", "singular", "'none'", "'square'"]),
    (dict(variant="lora", directions=4), ["directions", "'none'", "singular"]),
    (dict(variant="spectral", projection="gather", directions=9), ["directions", "'gather'", "singular"]),
    (dict(variant="lotr", order=2), ["fold", "order"]),
    (dict(variant="lorta", core="identity", rank=[2, 2, 2]), ["rank", "core"]),
    (dict(variant="lonkr", order=3), ["order", "splits"]),
]


def _id(entry) -> str:
    return ",".join(f"{name}={value}" for name, value in entry[0].items())


def refusal(fields) -> str:
    with pytest.raises(ConfigError) as caught:
        SuperLoRAConfig(**fields)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


def says(message: str, word) -> bool:
    """The word as a word: 'none' is not found in 'nonetheless', '1' not in '10'."""
    return re.search(rf"(?<![\w.]){re.escape(str(word))}(?!\w)", message) is not None


@pytest.mark.parametrize("entry", BAD_VALUES, ids=_id)
def test_a_bad_value_is_refused_with_field_value_and_what_is_accepted(entry):
    fields, name, accepted = entry
    message = refusal(fields)
    assert says(message, name)
    came = fields[name]
    came = [*came, len(came)] if isinstance(came, list) else [came]  # the list, or its entry, or their number
    assert repr(fields[name]) in message or any(str(item) in message for item in came)
    assert re.search(r"(?i)should|must|accepted|expected|give", message), message
    for word in accepted:
        assert says(message, word), f"{word!r} not in {message!r}"


@pytest.mark.parametrize("entry", COMBINATIONS, ids=_id)
def test_an_illegal_combination_is_refused_naming_both_fields(entry):
    fields, names = entry
    message = refusal(fields)
    for name in names:
        assert says(message, name), f"{name!r} not in {message!r}"
        if name in fields:
            assert str(fields[name]) in message, f"{fields[name]!r} not in {message!r}"


@pytest.mark.parametrize(
    ("wrong", "right"), [("rnk", "rank"), ("group", "groups"), ("side_multiples", "side_multiple")]
)
def test_an_unknown_name_is_refused_with_the_nearest(wrong, right):
    message = refusal({wrong: 4})
    assert says(message, wrong)
    assert says(message, right)


def test_a_config_cannot_be_made_illegal_later():
    config = SuperLoRAConfig()
    with pytest.raises((SuperLoRAError, ValueError, TypeError, AttributeError)):
        config.rank = -1


TARGETS = [("a.to_q", 2, 3), ("a.to_v", 2, 2)]  # N = 10


@pytest.mark.parametrize("groups", [6, 7, 8, 9, 11, 100])
def test_a_grouping_with_an_empty_run_is_refused(groups):
    """10 weights: 6 runs of 2 leave one empty, 10 runs of 1 are fine."""
    config = SuperLoRAConfig(groups=groups, order=1)
    with pytest.raises(ConfigError) as caught:
        count_parameters(config, TARGETS)
    assert says(str(caught.value), "groups") and says(str(caught.value), groups)
    model = tree([("a.to_q", (2, 3)), ("a.to_v", (2, 2))])
    keys = list(model.state_dict())
    with pytest.raises(ConfigError, match="groups"):
        attach(model, config)
    assert list(model.state_dict()) == keys
    assert all(parameter.requires_grad for parameter in model.parameters()), (
        "a refused attach changes nothing"
    )


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 5, 10])
def test_a_grouping_without_an_empty_run_is_accepted(groups):
    found = count_parameters(SuperLoRAConfig(groups=groups, order=1), TARGETS)
    assert found == groups * -(-10 // groups)
