"""``diff`` as a person would type it."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from tiny import make_base, run_config

from superlora_diffusion.adapters import AdapterCard
from superlora_diffusion.cli import diff as verb
from superlora_diffusion.peers import attach_peer
from superlora_diffusion.runs.comparison import compare_adapters
from superlora_diffusion.runs.folder import RunFolder

from .test_inspect import call
from .test_inspect_measure import save


def said(*words):
    result = call("diff", *words)
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two finished runs, ``runs/lora`` and ``runs/lorta``, whose base is nowhere, and other adapters."""
    folder = tmp_path_factory.mktemp("compared")
    for name, steps, fields in (("lora", 6, {"rank": 2}), ("lorta", 9, {"rank": 3, "targets": ["to_v"]})):
        run = RunFolder(folder / "runs" / name)
        run.claim(run_config(folder, train={"steps": steps}))
        save(run.adapter, "birches-8", steps, variant=name, **fields)
        record = {"name": name, "parameters": 512, "fid": steps / 2, "n": 8, "extractor": "digits"}
        run.scores.write_text(json.dumps([record]))
    save(folder / "many", None, targets=["attention", "conv1", "conv2"], groups="weight", fold="none", rank=1)
    attach_peer(make_base().network, "bitfit", None, 0).save(folder / "bitfit", AdapterCard(base="birches-8"))
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def test_two_runs_side_by_side(here):
    text = said("runs/lora", "runs/lorta")
    for line in (
        r"variant +lora +lorta",
        r"rank +2 +3",
        r"targets +\[to_q, to_v\] +\[to_v\]",
        r"base +birches-8 +birches-8",
        r"+the same weights +the same weights",
        r"parameters +512 +\d+",
        r"steps +6 +9",
        r"learning_rate +0.02 +0.02",
    ):
        assert re.search(rf"^ *{line} *$", text, re.M), (line, text)
    assert text.startswith("A: lora: runs/lora/adapter\nB: lorta: runs/lorta/adapter\n")
    assert not re.search(r"^ *projection ", text, re.M), "what both have alike is not a difference"
    assert re.search(r"^A's scores +parameters +FID", text, re.M) and re.search(
        r"^lora +512 +3.000", text, re.M
    )
    assert re.search(r"^lorta +512 +4.500", text, re.M)


def test_a_row_a_target_and_their_sum(here):
    text, found = said("runs/lora", "runs/lorta"), compare_adapters("runs/lora", "runs/lorta")
    assert len(found.targets) == 4
    for target in found.targets:
        near, spaces = target.closeness, target.closeness.subspaces
        left = rf"{spaces.left:.2f} \({spaces.left_by_chance:.2f}\)"
        right = rf"{spaces.right:.2f} \({spaces.right_by_chance:.2f}\)"
        numbers = (
            rf"{near.one_norm:.4g} +{near.two_norm:.4g} +{near.relative_distance:.3f} +{near.cosine:.3f}"
        )
        i, j = spaces.directions
        row = rf"^{re.escape(target.name)} +{numbers} +{i}, {j} +{left} +{right} *$"
        assert re.search(row, text, re.M), (row, text)
    joint = found.joint
    assert (
        f"all together: |A| {joint.one_norm:.4g}, |B| {joint.two_norm:.4g}, distance "
        f"{joint.relative_distance:.3f}, cosine {joint.cosine:.3f}" in text
    )
    assert f"mean overlap: left {joint.left:.2f} ({joint.left_by_chance:.2f})" in text
    assert f"targets of A alone (4): {found.only_one[0]}, " in text and "targets of B alone" not in text
    assert "Hu et al. 2021" in text


def test_directions(here):
    assert re.search(r"  1, 1  ", said("runs/lora", "runs/lorta", "--directions", "1"))
    assert call("diff", "runs/lora", "runs/lorta", "--directions", "0").exit_code == 2


def test_long_tables_are_shortened(here):
    short, whole = said("many", "many"), said("many", "many", "--all")
    names = [target.name for target in compare_adapters("many", "many").targets]
    assert len(names) > 22 and all(f"\n{name} " in whole for name in names)
    assert [name for name in names if f"\n{name} " in short] == names[:12] + names[-8:]
    assert f"... {len(names) - 20} more: --all shows them" in short


def test_a_peer_without_its_base(here):
    text = said("runs/lora", "bitfit")
    assert re.search(r"^ *method +superlora +bitfit *$", text, re.M) and "birches-8" in text
    assert "its updates are read off its base" in text and "all together" not in text


def test_json_is_all_there_is(here):
    found = compare_adapters("runs/lora", "runs/lorta")
    assert json.loads(said("runs/lora", "runs/lorta", "--json")) == json.loads(json.dumps(found.as_dict()))


def test_the_examples_run_as_printed(here):
    lines = [line.strip() for line in verb._HELP.splitlines()]
    examples = [shlex.split(line)[1:] for line in lines if line.startswith("superlora-diff ")]
    assert len(examples) >= 3 and all(call(*words).exit_code == 0 for words in examples)


def test_what_is_wrong_is_said_without_a_traceback(here):
    for words in (("runs/lora", "gone"), ("gone", "runs/lora")):
        result = call("diff", *words)
        assert result.exit_code == 1 and result.stdout == ""
        assert result.stderr.startswith("error: gone is no folder")
