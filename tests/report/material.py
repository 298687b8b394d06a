"""Run folders as training, scoring and sweeps leave them, written directly: nothing is trained here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from superlora_diffusion.evaluation.records import ScoreRecord, write_scores
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.runs.family import family_of
from superlora_diffusion.runs.loading import to_yaml

PROTOCOL = {
    "sampler": "ddpm",
    "steps": 10,
    "guidance_scale": 2.0,
    "real": "0123456789ab",
    "base": "tiny-base",
}

# setting -> (adapter, parameters, IS distance of seed 0; seed 1 is 0.02 above)
SETTINGS: dict[str, tuple[dict[str, Any], int, float]] = {
    "vector-13": ({"order": 1, "projection": "fastfood", "ratio": 0.0002}, 13, 3.2),
    "lorta-m5-r1": ({"variant": "lorta", "order": 5, "rank": 1}, 76, 2.1),
    "lorta-r2": ({"variant": "lorta", "rank": 2}, 130, 1.5),
    "lonkr": ({"variant": "lonkr"}, 620, 1.7),
    "lorta-r8": ({"variant": "lorta", "rank": 8}, 1_472, 0.6),
    "square-g4-fastfood": ({"groups": 4, "projection": "fastfood", "ratio": 0.5}, 2_900, 0.9),
    "lora-r1": ({"variant": "lora", "rank": 1}, 5_376, 0.7),
    "dense": ({"variant": "dense"}, 63_488, 0.05),
}
SEEDS = (0, 1)


def write_data(path: Path) -> Path:
    """An npz of 8-pixel images in four classes."""
    generator = np.random.default_rng(0)
    labels = np.arange(48) % 4
    images = generator.integers(0, 256, (48, 8, 8, 3), dtype=np.uint8)
    names = np.array(["ash", "birch", "cedar", "oak"])
    np.savez(path, images=images, labels=labels, split=(np.arange(48) >= 24).astype(int), class_names=names)
    return path


def make_record(name: str, parameters: int, is_distance: float, **changes: Any) -> ScoreRecord:
    """Scores that follow from the distance, so that a test can compute them again."""
    fields = {
        "is_mean": 9.0 - is_distance, "is_std": 0.1, "is_stderr": 0.03, "is_real": 9.0, "is_real_std": 0.1,
        "is_distance": is_distance, "fid": 10 * is_distance, "accuracy": 1 - is_distance / 10, "n": 1000,
        "splits": 10, "seed": 0, "extractor": "digits", "extractor_hash": "13313ddccf69", "settings": PROTOCOL,
    }  # fmt: skip
    return ScoreRecord(name=name, parameters=parameters, **(fields | changes))


def write_run(
    folder: Path,
    data: Path,
    *,
    setting: str | None = None,
    seed: int = 0,
    record: ScoreRecord | None = None,
    finished: bool = True,
    card: bool = True,
    grid: bool = True,
    losses: bool = True,
    **values: Any,
) -> RunConfig:
    """One run folder; with a card it is a sweep's cell."""
    defaults = {"train": {"steps": 500, "learning_rate": 0.02}, "preview": {"every": 500}}
    config = RunConfig(output=str(folder), seed=seed, data={"name": f"npz:{data}"}, **{**defaults, **values})
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    if losses:
        write_metrics(folder, seed)
    if grid:
        write_grid(folder / "samples" / "step-000500.png", seed)
    if finished:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter_config.json").write_text(
            json.dumps({"parameters": record.parameters if record else 77}), encoding="utf-8"
        )
    if record is not None:
        write_scores(folder / "scores.json", [make_record("base", 0, 4.9), record])
    if card:
        write_card(folder, config, setting or folder.name, seed)
    return config


def write_metrics(folder: Path, seed: int) -> None:
    lines = [{"step": step, "loss": 0.1 + 5 / (step + 20 + seed)} for step in range(20, 501, 20)]
    lines += [
        {"step": step, "validation_loss": 0.09 + 4 / (step + 30) + 0.001 * seed} for step in (0, 250, 500)
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 510, "lo', encoding="utf-8")  # cut off by a crash


def write_grid(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (
        np.random.default_rng(seed).integers(0, 256, (16, 32, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
    )
    Image.fromarray(pixels).save(path)


def write_card(folder: Path, config: RunConfig, setting: str, seed: int) -> None:
    card = {
        "sweep": "compare", "setting": setting, "family": family_of(config), "target": config.data.name, "seed": seed,
        "race": [{"learning_rate": 0.01, "validation_loss": 0.2}, {"learning_rate": 0.02, "validation_loss": 0.15}],
        "race_seconds": 12.5, "command": f"superlora-diff train --config {folder}/config.yaml output=NEW_FOLDER",
    }  # fmt: skip
    (folder / "cell.json").write_text(json.dumps(card), encoding="utf-8")


def write_sweep(root: Path) -> Path:
    """Eight settings with two seeds each, one run unfinished, one without scores."""
    root.mkdir(parents=True, exist_ok=True)
    data = write_data(root / "data.npz")
    for setting, (adapter, parameters, distance) in SETTINGS.items():
        for seed in SEEDS:
            name = f"{setting}-seed{seed}"
            record = make_record(name, parameters, distance + 0.02 * seed)
            folder = root / "cells" / name
            write_run(
                folder, data, setting=setting, seed=seed, record=record, adapter={**adapter, "seed": seed}
            )
    write_run(root / "cells" / "broken-off", data, finished=False)
    write_run(root / "cells" / "unscored", data, losses=False, adapter={"variant": "lotr"})
    write_run(root / "race" / "lora-r1" / "0.01", data)
    return root
