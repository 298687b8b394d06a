"""A tiny base with two adapters and a sweep of them, trained for a few steps."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from report.material import make_record
from tiny import run_config, write_base, write_data

from superlora_diffusion.evaluation.records import write_scores
from superlora_diffusion.training.loop import train

STRONG = {"steps": 12, "batch_size": 8, "learning_rate": 0.3, "lr_schedule": "constant"}
NASTY = "${alert(1)} {{x}} <img src=x onerror=alert(1)>"


def trained(folder, name, **sections):
    values = {"train": STRONG, "sampling": {"steps": 3, "guidance_scale": 2.0}, **sections}
    train(run_config(folder, output=str(folder / name), **values), "cpu", quiet=True)
    return str(folder / name)


def as_cell(run, cell, setting, parameters, distance):
    """A finished run as a sweep's scored cell."""
    shutil.copytree(run, cell)
    write_scores(
        cell / "scores.json", [make_record("base", 0, 4.9), make_record(cell.name, parameters, distance)]
    )
    (cell / "cell.json").write_text(json.dumps({"sweep": "tiny", "setting": setting, "seed": 0}))


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Paths, as text: base, one, two (of one kind), three (of another), away (on another base), sweep."""
    folder = tmp_path_factory.mktemp("app")
    write_base(folder / "base")
    write_base(folder / "other-base", null_class=False)
    write_data(folder / "data.npz")
    one = trained(folder, "one")
    two = trained(folder, "two", seed=5, train={**STRONG, "learning_rate": 0.2})
    group = {"variant": "lorta", "rank": 3, "targets": ["to_q", "to_k"]}
    three = trained(folder, "three", adapter=group)
    other = {"path": str(folder / "other-base")}
    guided = {"steps": 3, "guidance_scale": 1.0}
    still = {**STRONG, "class_dropout": 0.0}
    away = trained(folder, "away", base=other, sampling=guided, train=still)
    cells = folder / "sweep" / "cells"
    as_cell(one, cells / "small", "small", 64, 2.0)
    as_cell(two, cells / "large", "large", 4_000, 0.5)
    as_cell(three, cells / "nasty", NASTY, 900, 3.0)
    return SimpleNamespace(
        folder=folder,
        base=str(folder / "base"),
        one=one,
        two=two,
        three=three,
        away=away,
        sweep=str(folder / "sweep"),
    )
