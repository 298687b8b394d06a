"""Every family of networks through every verb, as a person types them. The table in the guide names these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipelines import load_pipeline

from .family_runs import ADAPTERS, KINDS, LATENT, PROMPTS, STEPS, TEXT, asking, said
from .plain import plain_images

VISIBLE = 8
"""Grey levels by which an image differs from the base's at least, so that a comparison says something."""


@pytest.fixture(params=KINDS)
def run(request, runs):
    return runs[request.param]


def lines_of(run) -> list[dict]:
    return [json.loads(line) for line in (run.run / "metrics.jsonl").read_text().splitlines()]


def test_train(run):
    targets = json.loads((run.run / "adapter" / "adapter_config.json").read_text())["targets"]
    plan = json.loads(said("train", "--config", run.config, "--dry-run", "--json"))
    assert [target["name"] for target in plan["targets"]] == [target["name"] for target in targets]
    assert f"Training {plan['parameters']:,} numbers" in run.second.stderr
    told = json.loads((run.run / "data.json").read_text())
    images = {"sd": 16, "sdxl": 16, "sd3": 16}.get(run.kind, 8)
    assert told["train"]["images"] == images and lines_of(run)[-1]["step"] == STEPS


def test_the_plan_shows_the_familys_own_targets(runs):
    plan = json.loads(said("train", "--config", runs["sd3"].config, "--dry-run", "--json"))
    assert plan["config"]["adapter"]["targets"] == ["to_q", "to_v", "add_q_proj", "add_v_proj"]


def test_resume(run):
    """What a stopped run goes on to is what it would have been; tests/training/test_families.py compares."""
    assert run.first.exit_code == 143 and "Stopped at step 3; saved" in run.first.stderr
    assert run.second.exit_code == 0 and "Going on from step 3" in run.second.stderr
    steps = [line["step"] for line in lines_of(run)]
    assert steps == sorted(steps) and {2, 3, 4, 6} == set(steps)
    again = said("train", "--config", run.config, "--json")
    assert json.loads(again)["trained"] is False


def test_sample(run, tmp_path):
    assert np.abs(run.ours - run.plain).max() > VISIBLE
    assert np.abs(plain_images(load_pipeline(run.base)) - run.plain).max() <= 1, (
        "the base as diffusers draws it"
    )
    words = ["--count", 2, "--steps", 1, "--out", tmp_path / "s", "--device", "cpu", "--json"]
    told = json.loads(said("sample", run.run, *asking(run.kind), "--format", "png", *words))
    size = Image.open(told["files"][0]).size
    assert len(told["files"]) == 2 and size == ((16, 16) if run.kind in LATENT else (8, 8))
    told = json.loads(said("sample", run.run, *asking(run.kind), *words))
    assert [Path(file).name for file in told["files"]] == ["grid.png"]
    assert [path.name for path in (tmp_path / "s").iterdir() if path.suffix == ".png"] == ["grid.png"]
    assert told["sampling"]["sampler"] == ("euler" if run.kind == "sd3" else "dpm++2m"), "the family's own"
    if run.kind in TEXT:
        assert told["prompts"] == list(PROMPTS) and told["classes"] == [0, 1]


def test_eval_is(run):
    words = ["--steps", 2, "--device", "cpu", "--metrics", "is,fid", "--json", "-q"]
    scores = json.loads(said("eval-is", run.run, *words))
    assert [score["name"] for score in scores] == ["base", "run"]
    assert (
        all(score["n"] == 4 and score["fid"] > 0 for score in scores) and scores[0]["fid"] != scores[1]["fid"]
    )
    assert scores[1]["parameters"] == json.loads(said("inspect", run.run, "--json"))["parameters"]


def test_inspect(run):
    found = json.loads(said("inspect", run.run, "--json"))
    plan = json.loads(said("train", "--config", run.config, "--dry-run", "--json"))
    assert found["parameters"] == plan["parameters"]
    text = said("inspect", run.run)
    assert ADAPTERS[run.kind]["variant"] in text and str(run.base) in text.replace("\n", "")
    shown = said("inspect", "--targets", run.base, *plan["config"]["adapter"]["targets"], "--all")
    assert all(target["name"] in shown for target in plan["targets"])


def test_merge(run, tmp_path):
    out = tmp_path / "merged"
    said("merge", run.run, "--out", out)
    ours = run.drawn(run.run, tmp_path / "ours", "--merge")
    theirs = plain_images(load_pipeline(out))
    assert np.abs(theirs - ours).max() <= 1
    assert np.abs(theirs - run.plain).max() > VISIBLE
    again = run.drawn(out, tmp_path / "again")  # as a base of our own
    assert np.abs(again - ours).max() <= 1
    twice = run.drawn(run.run / "adapter", tmp_path / "twice", "--base", out)
    assert np.abs(twice - ours).max() > 1


@pytest.fixture(scope="module")
def elsewhere(runs, tmp_path_factory):
    """What a fresh process draws with each run's adapter on a pipeline of diffusers."""
    out = tmp_path_factory.mktemp("elsewhere") / "images.npz"
    folders = {kind: [str(runs[kind].base), str(runs[kind].run / "adapter")] for kind in KINDS}
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    words = [sys.executable, str(Path(__file__).with_name("plain.py")), json.dumps(folders), str(out)]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(out)


def test_reload_elsewhere(run, elsewhere):
    assert np.abs(elsewhere[run.kind] - run.ours).max() <= 1
    assert np.abs(elsewhere[run.kind] - run.plain).max() > VISIBLE
