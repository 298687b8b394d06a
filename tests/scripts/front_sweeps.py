"""Sweeps as files, for the tests of the front."""

from __future__ import annotations

import csv
import json

import yaml

COLUMNS = [
    "setting", "family", "target", "parameters", "seed", "lr", "steps",
    "val_loss", "is_distance", "fid", "kid", "accuracy",
]  # fmt: skip
METHODS = {
    "lora-r1": {"adapter.variant": "lora", "adapter.rank": 1},
    "lora-r8": {"adapter.variant": "lora", "adapter.rank": 8},
    "dense": {"adapter.variant": "dense"},
    "lorta-r4": {"adapter.variant": "lorta", "adapter.rank": 4},
    "lotr-r4": {"adapter.variant": "lotr", "adapter.rank": 4},
    "norms": {"method": "norms"},
    "dora": {"method": "peft", "peft.tuner": "lora"},
}


def line(setting, seed=0, parameters=100, loss=0.2, distance=1.0, fid=10.0, **other):
    """A row of results.csv."""
    scores = {"val_loss": loss, "is_distance": distance, "fid": fid, "kid": 0.1, "accuracy": 0.9}
    row = {
        "setting": setting,
        "family": "as the sweep says",
        "target": "mnist-mini",
        "parameters": parameters,
    }
    return {**row, "seed": seed, "lr": 0.02, "steps": 300, **scores, **other}


def write_sweep(folder, rows, methods=None, **values):
    """A sweep's results.csv and sweep.yaml."""
    folder.mkdir(parents=True)
    chosen = methods or METHODS
    names = dict.fromkeys(row["setting"] for row in rows)
    sweep = {
        "output": str(folder),
        "config": "demo",
        "set": {"data.name": "mnist-mini", "train.steps": 300, **values},
        "settings": [{"name": name, "set": chosen[name]} for name in names],
        "seeds": sorted({row["seed"] for row in rows}),
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "precision"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def record(**values):
    drawn = {"sampler": "dpm++2m", "steps": 10, "guidance_scale": 2.0, "base": "synthdigits-16", "real": "r1"}
    settings = {**drawn, "weights": "w", **values.pop("settings", {})}
    fixed = {"name": "base", "parameters": 0, "is_distance": 4.0, "fid": 70.0, "kid": 1.0, "accuracy": 0.99}
    fixed |= {"n": 500, "splits": 5, "seed": 0, "extractor": "digits", "extractor_hash": "e"}
    return {**fixed, **values, "settings": settings}


PROTOCOL = {
    "sampling.sampler": "dpm++2m", "sampling.steps": 10, "sampling.guidance_scale": 2, "evaluation.images": 500,
    "evaluation.splits": 5, "base.path": "synthdigits-16",
}  # fmt: skip


def write_scores(folder, records):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(records))
