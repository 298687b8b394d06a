"""``inspect --targets`` as a person would type it."""

from __future__ import annotations

import json
import re

import pytest
import typed
from tiny import write_base

from superlora_diffusion.cli.common import split_words

NAMES = [
    f"{place}.attentions.{number}.{name}"
    for place, number in (("down_blocks.1", 0), ("up_blocks.0", 0), ("up_blocks.0", 1), ("mid_block", 0))
    for name in ("to_q", "to_v")
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(write_base(tmp_path_factory.mktemp("listed") / "base"))


def call(*words):
    return typed.call("inspect", *words)


def said(*words):
    result = call(*words)
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    return result.stdout


def rows(text):
    """Every printed row as its cells."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def test_without_patterns_what_an_adapter_takes_by_default(base):
    found = rows(said("--targets", base))
    assert found[0] == [f"UNet2DModel of {base}"]
    assert ["to_q", "4", "1,024"] in found and ["to_v", "4", "1,024"] in found
    assert ["all targets", "8", "2,048"] in found and ["8", "16 x 16"] in found
    assert [row for row in found if row[0] in NAMES] == [[name, "16 x 16"] for name in NAMES]


def test_patterns_and_exclusions_are_counted_one_by_one(base):
    words = ("attention", "^conv_in,time_emb_proj", "--exclude", "mid_block.**", "--exclude", "to_k,to_out.0")
    found = rows(said("--targets", base, *words))
    for row in (
        ["attention", "16", "4,096"],
        ["^conv_in", "1", "216"],
        ["time_emb_proj", "8", f"{32 * (8 + 16 + 16 + 16 + 8 + 8 + 16 + 16):,}"],
        ["exclude mid_block.**", "6", f"{4 * 256 + 2 * 512:,}"],
        ["exclude to_k", "4", "1,024"],
        ["exclude to_out.0", "4", "1,024"],
        ["conv_in", "8 x 27"],
    ):
        assert row in found, (row, found)
    names = [row[0] for row in found if len(row) == 2 and "attentions" in row[0]]
    assert names == NAMES[:6]
    (total,) = (row for row in found if row[0] == "all targets")
    assert total[1] == str(6 + 1 + 6)


def test_many_names_are_printed_when_asked_for_and_always_in_json(base):
    text = said("--targets", base, "**")
    assert "conv_out" not in text
    number = re.search(r"--all prints the (\d+) names", text)[1]
    found = rows(said("--targets", base, "**", "--all"))
    listed = json.loads(said("--targets", base, "**", "--json"))
    assert listed["matrices"] == len(listed["targets"]) == int(number) > 24
    shapes = {target["name"]: " x ".join(map(str, target["shape"])) for target in listed["targets"]}
    assert shapes["conv_out"] == "3 x 72"
    assert {row[0]: row[1] for row in found if row[0] in shapes} == shapes
    assert sum(a * b for a, b in (target["shape"] for target in listed["targets"])) == listed["weights"]


def test_json_tells_patterns_and_shapes(base):
    listed = json.loads(said("--targets", base, "qv", "--exclude", "to_v", "--json"))
    assert (listed["model"], listed["network"]) == (base, "UNet2DModel")
    assert (listed["patterns"], listed["exclude"]) == (["qv"], ["to_v"])
    assert listed["taken"] == [{"pattern": "qv", "matrices": 8, "weights": 2048}]
    assert listed["excluded"] == [{"pattern": "to_v", "matrices": 4, "weights": 1024}]
    assert listed["targets"] == [{"name": name, "shape": [16, 16]} for name in NAMES[::2]]
    assert listed["shapes"] == [{"shape": [16, 16], "count": 4}]


def test_models_are_named_as_elsewhere(base):
    for model in (f"{base}/unet/config.json", "paper/base-svhn", "synthdigits-16", "demo"):
        assert "UNet2DModel of" in said("--targets", model, "to_q")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            ("--targets", "BASE", "to_x"),
            1,
            "'to_x' matches no Linear or Conv2d layer of UNet2DModel. Did you mean 'to_",
        ),
        (("--targets", "BASE", "--exclude", "to_k"), 1, "exclude 'to_k' takes away none of the 8 targets"),
        (("--targets", "BASE", "a**"), 2, "targets: got 'a**'"),
        (("--targets", "BASE", ""), 2, "targets: got ['']: give at least one module name"),
        (("--targets", "nowhere"), 1, "model 'nowhere' is neither a file nor a folder"),
        ((), 2, "give an adapter folder or a run folder, or --targets MODEL"),
        (("runs/demo", "to_q"), 2, "got PATTERN without --targets MODEL"),
        (("runs/demo", "--exclude", "to_q"), 2, "got --exclude without --targets MODEL"),
        (("runs/demo", "--all"), 2, "got --all without --targets MODEL"),
    ],
)
def test_what_is_wrong_is_said(words, code, says, base):
    result = call(*(base if word == "BASE" else word for word in words))
    assert (result.exit_code, result.stdout) == (code, "") and says in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("to_q, to_v", ("to_q", "to_v")),
        ("[to_q,to_v]", ("to_q", "to_v")),
        ("to_[kv]", ("to_[kv]",)),
        ("[to_q, to_[kv]]", ("to_q", "to_[kv]")),
        ("[qv]", ("qv",)),
        ("to_[k,v],to_q", ("to_[k,v]", "to_q")),
        ("[ab]*,to_[qv]", ("[ab]*", "to_[qv]")),
    ],
)
def test_lists_as_people_type_them(text, words):
    assert split_words(text) == words
