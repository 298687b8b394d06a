"""``sample --adapter``, as a person would type it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from tiny import run_values, write_base, write_data

from .test_verbs import call, fails

STRONG = {"steps": 20, "batch_size": 8, "learning_rate": 0.3, "lr_schedule": "constant"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny base and the runs ``cats`` and ``dogs`` on it, of different settings."""
    folder = tmp_path_factory.mktemp("mixed")
    write_base(folder / "base")
    write_data(folder / "data.npz")
    (folder / "mine.yaml").write_text(yaml.safe_dump(run_values(folder, train=STRONG)))
    for name, words in {
        "cats": [],
        "dogs": ["adapter.variant=group_lora", "adapter.rank=3", "seed=4"],
    }.items():
        result = call("train", "-q", "-c", folder / "mine.yaml", f"output={folder / name}", *words)
        assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def pictures(tmp_path, *words):
    """The images, and what is printed as JSON."""
    result = call(
        "sample", *words, "--out", tmp_path, "--format", "npz", "--count", 4, "--steps", 2, "--json"
    )
    assert result.exit_code == 0, result.stderr
    with np.load(tmp_path / "samples.npz") as stored:
        return stored["images"].astype(int), json.loads(result.stdout)


def test_two_adapters_from_the_command_line(here, tmp_path):
    mixed, told = pictures(tmp_path, "--adapter", "cats=0.7", "--adapter", "dogs=0.3")
    assert [(one["source"], one["weight"]) for one in told["adapters"]] == [("cats", 0.7), ("dogs", 0.3)]
    assert told["base"] == str(here / "base") and told["source"] == "cats+dogs"
    for alone in ("base", "cats", "dogs"):
        assert np.abs(mixed - pictures(tmp_path, alone)[0]).mean() > 0.5
    assert np.array_equal(pictures(tmp_path, "base", "--adapter", "cats", "--adapter", "dogs=0")[0],
                          pictures(tmp_path, "cats")[0])  # fmt: skip
    merged, told = pictures(tmp_path, "--merge", "--adapter", "cats=0.7", "--adapter", "dogs=0.3")
    assert told["merged"] and np.abs(merged - mixed).max() <= 1
    half, told = pictures(tmp_path, "cats", "--adapter", "dogs", "--scale", "0.5")
    assert told["scale"] == 0.5 and [one["weight"] for one in told["adapters"]] == [1.0, 1.0]
    same, _ = pictures(tmp_path, "--adapter", "cats=0.5", "--adapter", "dogs=0.5")
    assert np.array_equal(half, same)


def test_without_a_place_to_write_and_without_anything(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("sample", here / "base", "--adapter", here / "dogs/adapter=2", "--count", 1, "--steps", 1)
    assert call(*words).stdout == "1 images: samples-base+adapter/grid.png\n"
    assert "nothing to draw from" in fails(2, "sample")
    assert "nothing to draw from" in fails(2, "sample", "--base", here / "base")


def test_mistakes_are_told_in_a_sentence(here, tmp_path):
    assert "ADAPTER=WEIGHT" in fails(2, "sample", "--adapter", "cats=much")
    assert "--adapter base holds no adapter" in fails(1, "sample", "--adapter", "base")
    other = tmp_path / "other"
    shutil.copytree("dogs", other)
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["base"]["path"] = "synthdigits-16"
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    assert "different bases" in fails(2, "sample", "--adapter", "cats", "--adapter", other)
    assert "Is this the right base?" in fails(1, "sample", "synthdigits-16", "--adapter", "cats")
