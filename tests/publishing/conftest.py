"""A finished tiny run with scores, pictures and much that is nobody's business, made once."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hub.fake_hub import FakeHub
from tiny import NAMES, run_config, write_base, write_data

from superlora_diffusion.evaluation.records import ScoreRecord, write_scores
from superlora_diffusion.training.loop import train

SCORES = {"n": 8, "splits": 2, "seed": 0, "extractor": "digits", "extractor_hash": "abc123def456"}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """``base``, ``data.npz`` and the run ``run`` (an adapter of 512 numbers)."""
    folder = tmp_path_factory.mktemp("published")
    write_base(folder / "base")
    write_data(folder / "data.npz")
    config = run_config(folder, preview={"every": 3, "per_class": 1}, checkpoint={"every": 3}, seed=5)
    train(config, "cpu", quiet=True)
    record(folder / "run", "base", 0, fid=70.25, accuracy=1.0)
    record(folder / "run", "run", 512, fid=12.5, is_mean=3.5, is_stderr=0.1, is_distance=0.25)
    environment = json.loads((folder / "run/environment.json").read_text())
    environment["command"] = ["/opt/place/superlora-diff", "train", "--config", "mine.yaml", "seed=5"]
    (folder / "run/environment.json").write_text(json.dumps(environment))
    return folder


def record(run, name, parameters, **scores):
    settings = {"sampler": "ddim", "base": str(run.parent / "base")}
    notes = ("FID from 8 images is rough.",)
    values = {**SCORES, **scores, "settings": settings, "notes": notes}
    write_scores(run / "scores.json", [ScoreRecord(name=name, parameters=parameters, **values)])


def keep_scored_images(run, which, shade, labels=None):
    """As ``eval-is --save-images`` leaves them."""
    labels = np.arange(8) % 4 if labels is None else labels
    images = np.full((len(labels), 8, 8, 3), shade, np.uint8)
    (run / "samples").mkdir(exist_ok=True)
    np.savez(
        run / "samples" / f"scored-{which}-0123abcd.npz", images=images, labels=labels, class_names=NAMES
    )


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of the run, to change; the working folder is an empty one."""
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "run"


@pytest.fixture
def hub():
    fake = FakeHub()
    yield fake
    fake.close()
