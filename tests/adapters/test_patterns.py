"""The language of targets: ends of names, wildcards, anchors, exclusions; and that old configs mean what they meant."""

from __future__ import annotations

import copy
import json
import random

import pytest
import torch
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach, find_targets, load_adapter
from superlora_diffusion.adapters.grouping import make_grouping
from superlora_diffusion.adapters.naming import layer_name, matches
from superlora_diffusion.adapters.presets import PRESETS
from superlora_diffusion.errors import AdapterError, ConfigError

from .folder import CONFIG, same_deltas
from .networks import fill, small_unet, tree

NAMES = (
    "to_q",
    "first.attn1.to_q",
    "first.attn1.to_out.0",
    "first.attn2.to_q",
    "first.attn2.to_v",
    "mid.attn1.to_q",
    "mid.to_qx",
    "mid.deep.attn1.to_k",
)


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("to_q", [0, 1, 3, 5]),
        ("attn1.to_q", [1, 5]),
        ("q", []),
        ("tn1.to_q", []),
        ("To_q", []),
        ("to_?", [0, 1, 3, 4, 5, 7]),
        ("to_*", [0, 1, 3, 4, 5, 6, 7]),
        ("To_*", []),
        ("to_[qk]", [0, 1, 3, 5, 7]),
        ("to_[!q]", [4, 7]),
        ("to_[!q]*", [4, 7]),
        ("attn?.*", [1, 3, 4, 5, 7]),
        ("attn[2].to_q", [3]),
        ("*.to_q", [1, 3, 5]),
        ("*.*.to_q", [1, 3, 5]),
        ("to_out.*", [2]),
        ("*_out.[0-9]", [2]),
        ("*", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("first.*", []),
        ("first.*.to_q", [1, 3]),
        ("first.**", [1, 2, 3, 4]),
        ("mid.**", [5, 6, 7]),
        ("mid.**.to_*", [5, 6, 7]),
        ("mid.**.attn1.*", [5, 7]),
        ("**.deep.**", [7]),
        ("**", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("^to_q", [0]),
        ("^*", [0]),
        ("^attn1.to_q", []),
        ("^first.attn1.to_q", [1]),
        ("^*.to_q", []),
        ("^*.*.to_q", [1, 3, 5]),
        ("^**.to_q", [0, 1, 3, 5]),
        ("^mid.**.to_[qk]", [5, 7]),
        ("^**.**.to_out.**", [2]),
    ],
)
def test_what_a_pattern_matches(pattern, numbers):
    assert [number for number, name in enumerate(NAMES) if matches(name, pattern)] == numbers
    model = tree([(name, (2, 3)) for name in NAMES])
    if numbers:
        found = find_targets(model, SuperLoRAConfig(targets=pattern))
        assert {target.name for target in found} == {NAMES[number] for number in numbers}
    else:
        with pytest.raises(AdapterError, match="target"):
            find_targets(model, SuperLoRAConfig(targets=[pattern]))


@pytest.mark.parametrize("field", ["targets", "exclude"])
@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("a**", r"'a\*\*': '\*\*' .* stands alone"),
        ("x.***.y", "stands alone"),
        ("^", "give module names"),
        ("^.to_q", "give module names"),
        ("to_q.", "give module names"),
        ("to..q", "give module names"),
    ],
)
def test_a_malformed_pattern_is_refused(pattern, says, field):
    with pytest.raises(ConfigError, match=f"{field}: got .*{says}"):
        SuperLoRAConfig(**{field: ["to_q", pattern]})


def test_exclude_is_empty_by_default_and_may_be_one_word():
    assert SuperLoRAConfig().exclude == () and SuperLoRAConfig().targets == ("to_q", "to_v")
    assert SuperLoRAConfig(exclude="to_q").exclude == ("to_q",)
    with pytest.raises(ConfigError, match="targets: got"):
        SuperLoRAConfig(targets=[])


def test_exclusions_leave_the_rest_in_module_order():
    model = tree([(name, (2, 3)) for name in reversed(NAMES)])
    found = find_targets(model, SuperLoRAConfig(targets=["to_*", "to_out.0"], exclude=["to_?", "mid.**"]))
    assert [target.name for target in found] == ["first.attn1.to_out.0"]
    found = find_targets(model, SuperLoRAConfig(targets=["to_q"], exclude=["^to_q", "attn1.*"]))
    assert [target.name for target in found] == ["first.attn2.to_q"]
    found = find_targets(model, SuperLoRAConfig(targets=["attention"], exclude=["qv"]))
    assert {target.name for target in found} == {"first.attn1.to_out.0", "mid.deep.attn1.to_k"}


ATTENTION = "down_blocks.1.attentions.0"


@pytest.mark.parametrize(
    ("targets", "exclude", "says"),
    [
        (
            ["to_q"],
            ["to_k"],
            r"exclude 'to_k' takes away none of the \d+ targets: it matches \S+to_k.* Leave it out",
        ),
        (
            ["to_q", "to_v"],
            ["to_qq"],
            r"exclude 'to_qq' takes away none.*Did you mean 'to_q'\?.* end in: to_q, to_v;",
        ),
        (["to_q", "to_v"], ["to_q", "attn9.to_w"], r"exclude 'attn9.to_w' .*Did you mean 'to_v'"),
        (
            ["to_q"],
            ["attention+mlp"],
            r"all \d+ layers that targets to_q take are excluded by attention\+mlp",
        ),
        (["qv"], ["to_q", "to_v"], r"are excluded by to_q, to_v; leave at least one"),
        (["attenton"], [], r"target 'attenton' matches no Linear or Conv2d .*Did you mean 'attention'"),
        (["all_linear"], [], r"target 'all_linear' matches no .*Did you mean 'all-linear'"),
        (["attn?.to_z"], [], r"target 'attn\?.to_z' matches no .*Did you mean 'to_"),
        (["^to_q"], [], r"target '\^to_q' matches no .*Did you mean 'to_q'"),
        (
            ["^mid_block"],
            [],
            r"matches 'mid_block', which is a \w+; .*Inside it: \^mid_block\.\S+, .*\^mid_block\.\*\* takes",
        ),
        (
            ["to_q", "mid_block.*"],
            [],
            r"target 'mid_block\.\*' matches 'mid_block\.attentions', which is a ModuleList",
        ),
    ],
)
def test_what_takes_nothing_or_leaves_nothing_is_an_error_that_helps(targets, exclude, says):
    model = small_unet()
    with pytest.raises(AdapterError, match=says):
        attach(model, SuperLoRAConfig(targets=targets, exclude=exclude))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_number_in_the_hint_is_what_the_pattern_takes():
    model = tree([(name, (2, 3)) for name in NAMES])
    with pytest.raises(
        AdapterError, match=r"Inside it: attn1\.to_q, attn1\.to_out\.0\. attn1\.\*\* takes 4\."
    ):
        find_targets(model, SuperLoRAConfig(targets="attn1"))
    assert len(find_targets(model, SuperLoRAConfig(targets="attn1.**"))) == 4


class Odd(nn.Linear):
    """A class of its own, which no adapter can hold."""


def test_presets_pass_over_what_cannot_be_adapted_and_names_do_not():
    model = nn.ModuleDict({"to_q": nn.Linear(2, 2), "to_v": Odd(2, 2), "to_k": nn.Conv2d(2, 2, 1)})
    for preset, names in {"qv": ["to_q"], "attention": ["to_q", "to_k"], "all-linear": ["to_q"]}.items():
        assert [target.name for target in find_targets(model, SuperLoRAConfig(targets=preset))] == names
    with pytest.raises(AdapterError, match=r"'to_v' is a .*Odd"):
        attach(model, SuperLoRAConfig(targets="to_*"))


def test_presets_take_what_is_adapted_already():
    model = small_unet()
    first = attach(model, SuperLoRAConfig(targets="attention"), name="first")
    second = attach(model, SuperLoRAConfig(targets="all-linear", exclude="time_embedding.**"), name="second")
    assert {target.name for target in first.targets} < {target.name for target in second.targets}


# What configs meant before there were wildcards and presets.


def old_matches(name, pattern):
    return name == pattern or name.endswith(f".{pattern}")


def old_layer_name(name, patterns):
    matched = max((pattern for pattern in patterns if old_matches(name, pattern)), key=len, default="")
    return name[: len(name) - len(matched)].removesuffix(".")


WORDS = (*PRESETS, "to_q", "to_out", "0", "net", "proj", "attn1", "to_*", "^a")


def test_a_name_that_is_there_means_itself_whatever_else_it_could_mean():
    """Networks of random names, presets and wildcards among them, as a config from before would have meant them."""
    dice = random.Random(0)
    for _ in range(150):
        names = {".".join(dice.choices(WORDS, k=dice.choice((1, 2, 3)))) for _ in range(8)}
        names = sorted(name for name in names if not any(other.startswith(f"{name}.") for other in names))
        model = tree([(name, (2, 3)) for name in names])
        ends = [".".join(name.split(".")[-dice.choice((1, 2)) :]) for name in dice.choices(names, k=2)]
        found = [target.name for target in find_targets(model, SuperLoRAConfig(targets=ends))]
        assert sorted(found) == [name for name in names if any(old_matches(name, end) for end in ends)]
        assert [layer_name(name, ends) for name in found] == [old_layer_name(name, ends) for name in found]
        left = [name for name in names if not old_matches(name, ends[0])]
        if left:
            config = SuperLoRAConfig(targets="**", exclude=ends[0])
            assert sorted(target.name for target in find_targets(model, config)) == left


@pytest.mark.parametrize("groups", ["layer", "weight", 3])
def test_an_adapter_stored_before_loads_equal(groups, tmp_path):
    """Its config knows no ``exclude``."""
    base = small_unet()
    model = copy.deepcopy(base)
    adapter = attach(model, SuperLoRAConfig(targets=["to_q", "to_out.0"], groups=groups, rank=2))
    fill(adapter)
    adapter.save_pretrained(tmp_path)
    content = json.loads((tmp_path / CONFIG).read_text())
    del content["config"]["exclude"]
    (tmp_path / CONFIG).write_text(json.dumps(content))
    loaded = load_adapter(copy.deepcopy(base), tmp_path)
    assert loaded.config == adapter.config and same_deltas(loaded, adapter)
    assert any(delta.any() for delta in loaded.deltas().values())


@pytest.mark.parametrize(
    "targets", [["attention"], ["to_?", "to_out.*"], ["**.attentions.*.to_*", "to_out.0"]], ids=str
)
def test_an_adapter_of_patterns_is_stored_and_grouped_as_one_of_names(targets, tmp_path):
    base = small_unet()
    plain = ["to_q", "to_k", "to_v", "to_out.0"]
    adapters = []
    for patterns in (targets, plain):
        torch.manual_seed(0)
        model = copy.deepcopy(base)
        adapter = attach(
            model, SuperLoRAConfig(targets=patterns, exclude="mid_block.**", groups="layer", rank=2)
        )
        fill(adapter)
        adapters.append(adapter)
    assert adapters[0].targets == adapters[1].targets and same_deltas(*adapters)
    grouping = make_grouping(adapters[0].config, adapters[0].targets)
    assert {len(members) for members in grouping.members} == {4}
    adapters[0].save_pretrained(tmp_path)
    loaded = load_adapter(copy.deepcopy(base), tmp_path)
    assert same_deltas(loaded, adapters[0]) and loaded.config.exclude == ("mid_block.**",)
    assert any(delta.any() for delta in loaded.deltas().values())


@pytest.mark.parametrize(
    ("name", "patterns", "module"),
    [
        ("a.attn.to_q", ["to_[qv]"], "a.attn"),
        ("a.attn.to_out.0", ["attention"], "a.attn"),
        ("a.attn.to_out.0", ["^a.**"], "a.attn"),
        ("a.ff.net.0.proj", ["all-linear"], "a.ff"),
        ("a.ff.net.2", ["**"], "a.ff"),
        ("a.0.1", ["**"], "a.0"),
        ("to_q", ["*"], ""),
        ("to_out.0", ["to_out.?"], ""),
        ("a.attn1.to_q", ["attn?.to_q"], "a.attn1"),
        ("a.attn1.to_q", ["attn1.to_q"], "a"),
        ("a.attn1.to_q", ["to_q", "attn1.to_q"], "a"),
        ("a.attn1.to_q", ["to_q", "attn1.*"], "a.attn1"),
        ("a.other", ["to_q"], "a.other"),
    ],
)
def test_the_module_of_a_target(name, patterns, module):
    assert layer_name(name, patterns) == module
