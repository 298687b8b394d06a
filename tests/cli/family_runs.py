"""One tiny run of every family as a person makes it: a base's folder, pictures as files, a config, typed commands."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from families import WORDS, load, pictures, write_family, write_pictures
from PIL import Image
from typed import call

from superlora_diffusion.training import loop

KINDS = ("ddpm", "unconditional", "dit", "sd", "sdxl", "sd3")
LATENT = KINDS[2:]
TEXT = KINDS[3:]
ADAPTERS: dict[str, dict[str, Any]] = {  # no targets: the family's own
    "ddpm": {"variant": "lora", "rank": 2},
    "unconditional": {"variant": "lorta", "rank": 2, "targets": ["to_q", "to_v", "conv_in", "conv_out"]},
    "dit": {"variant": "lora", "rank": 2, "targets": ["all-linear"]},
    "sd": {"variant": "lora", "rank": 2},
    "sdxl": {"variant": "lorta", "rank": 4, "targets": ["attention", "ff.net.2"]},
    "sd3": {"variant": "lora", "rank": 2},
}
PROMPTS = ("a red dot", "oak")
CLASSES = (1, 3)
STEPS = 6


def said(*words: Any) -> str:
    """Standard output of a command that works."""
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(*words: Any) -> str:
    """The message of a command that is refused, its line breaks taken out."""
    result = call(*words)
    assert result.exit_code in (1, 2) and result.stdout == "", (result.exit_code, result.stdout)
    return " ".join(result.stderr.split())


@dataclass
class FamilyRun:
    """A finished run, and what it was made of."""

    kind: str
    place: Path
    first: Any
    """What the command that was stopped said."""
    second: Any
    """What the same command said that went on."""

    @property
    def run(self) -> Path:
        return self.place / "run"

    @property
    def base(self) -> Path:
        return self.place / "base"

    @property
    def config(self) -> Path:
        return self.place / "run.yaml"

    @cached_property
    def ours(self) -> np.ndarray:
        """The two images of the run."""
        return self.drawn(self.run, self.place / "ours")

    @cached_property
    def plain(self) -> np.ndarray:
        """The two images of the base."""
        return self.drawn(self.base, self.place / "plain")

    def drawn(self, source: Any, out: Path, *words: Any) -> np.ndarray:
        """The two images of ``sample``, (2, H, W, C), as whole numbers."""
        return drawn(self.kind, source, out, *words)


def asking(kind: str) -> list[str]:
    """Options of ``sample`` for two images: two prompts, two classes, or nothing."""
    if kind in TEXT:
        return [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    return [] if kind == "unconditional" else ["--classes", ",".join(map(str, CLASSES))]


def drawn(kind: str, source: Any, out: Path, *words: Any) -> np.ndarray:
    """Two images of ``sample``."""
    sampler = "euler" if kind == "sd3" else "ddim"
    fixed = ["--count", 2, "--steps", 4, "--sampler", sampler, "--format", "npz", "--device", "cpu", "-q"]
    said("sample", source, *asking(kind), *fixed, "--guidance-scale", guidance(kind), *words, "--out", out)
    return np.load(out / "samples.npz")["images"].astype(int)


def guidance(kind: str) -> float:
    """DiT guides only some of its channels in diffusers, and the pixels' pipeline none."""
    return 3.0 if kind in TEXT else 1.0


def make_run(kind: str, place: Path) -> FamilyRun:
    """Train by the verb; a signal stops the third step, and the same command goes on."""
    write_family(kind, place / "base")
    write_config(kind, place)
    first = train_until_a_signal(place / "run.yaml")
    return FamilyRun(kind, place, first, call("train", "--config", place / "run.yaml", "--device", "cpu"))


def train_until_a_signal(config: Path, *words: Any):
    real = loop.Trainer._optimise

    def stop_in_the_third(self):
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        real(self)

    loop.Trainer._optimise = stop_in_the_third
    try:
        return call("train", "--config", config, "--device", "cpu", *words)
    finally:
        loop.Trainer._optimise = real


def write_config(kind: str, place: Path, name: str = "run", **sections: Any) -> Path:
    """A config of six steps on the base of ``place``; sections are merged in."""
    values: dict[str, Any] = {
        "output": str(place / name),
        "base": {"path": str(place / "base")},
        "data": write_data(kind, place),
        "adapter": ADAPTERS[kind],
        "train": {
            "steps": STEPS,
            "batch_size": 4,
            "learning_rate": 0.1,
            "warmup_steps": 0,
            "ema_decay": None,
        },
        "validation": {"every": 3, "images": 4},
        "preview": {"every": None},
        "log": {"every": 2},
        "evaluation": {"images": 4, "splits": 2, "extractor": "digits"},
    }
    if kind == "unconditional":
        values["train"]["class_dropout"] = 0
    for key, section in sections.items():
        is_map = isinstance(section, dict)
        values[key] = {**values.get(key, {}), **section} if is_map else section
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def write_data(kind: str, place: Path) -> dict[str, Any]:
    """The section ``data``: each kind of base has its pictures and captions in another form."""
    folder = place / "pictures"
    write = {"sd": _with_metadata, "sdxl": _with_texts, "sd3": _in_class_folders}.get(kind)
    if write is None:
        return {"name": write_pictures(load(place / "base"), place / "pictures.npz")}
    if not folder.exists():
        write(folder)
    template = {"caption_template": "a {} leaf"} if kind == "sd3" else {}
    return {"name": f"imagefolder:{folder}", **template}


def save_pictures(folder: Path, names: list[str], height: int = 16, width: int = 16) -> None:
    """Pictures under these names, the eight over and over."""
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures(max(height, width))[index % 8, :height, :width]).save(path)


def _with_metadata(folder: Path) -> None:
    names = [f"{index:02d}.png" for index in range(20)]
    save_pictures(folder, names)
    rows = [{"file_name": name, "text": f"a {WORDS[index % 8]} leaf"} for index, name in enumerate(names)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _with_texts(folder: Path) -> None:
    names = [f"{index:02d}.png" for index in range(20)]
    save_pictures(folder, names)
    for index, name in enumerate(names):
        (folder / name).with_suffix(".txt").write_text(f"a {WORDS[index % 8]} leaf\n")


def _in_class_folders(folder: Path) -> None:
    save_pictures(folder, [f"{word}/{index}.png" for index in range(5) for word in WORDS[:4]])
