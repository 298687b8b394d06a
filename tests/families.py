"""One tiny base of every family, and eight pictures that it can learn by heart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pipelines import write_pipeline
from tiny import ZERO_SNR, make_base

from superlora_diffusion.models.base import Base
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.models.latents import encode_images
from superlora_diffusion.models.storage import load_base, save_base
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.sampling.producer import to_uint8

KINDS = ("ddpm", "dit", "sd", "sdxl", "sd3")
LATENT = KINDS[1:]
TEXT = ("sd", "sdxl", "sd3")
WORDS = ("ash", "birch", "cedar", "oak", "elm", "fir", "yew", "lime")
EVERYTHING = ("all-linear", "conv_in", "conv_out", "conv1", "conv2")


def load(folder: Path, **settings: Any) -> Base:
    return load_base(BaseSettings(path=str(folder), **settings))


def write_family(kind: str, folder: Path) -> Path:
    """A tiny base whose latents have about the spread that networks expect, drawn from a narrow posterior."""
    if kind == "unconditional":
        save_base(make_base(classes=0), folder)
        return folder
    if kind == "ddpm":
        base = make_base(classes=0, num_class_embeds=9)
        base.class_names, base.null_class = WORDS, 8
        save_base(base, folder)
        return folder
    write_pipeline(kind, folder)
    if kind in ("sd", "sdxl"):  # v, as Stable Diffusion 2.1 predicts it; DiT predicts noise, 3 a direction
        path = folder / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **ZERO_SNR}))
    base = load(folder)
    vae = base.parts.load("vae")
    with torch.no_grad():
        vae.quant_conv.weight[4:], vae.quant_conv.bias[4:] = 0, -12
    mean, _ = encode_images(base, pictures(16), torch.device("cpu"))
    vae.register_to_config(scaling_factor=vae.config.scaling_factor / mean.std().item())
    vae.save_pretrained(folder / "vae")
    return folder


def pictures(side: int) -> np.ndarray:
    """Eight pictures of two colours each, (8, side, side, 3)."""
    colours = np.random.default_rng(0).integers(0, 256, (8, 1, 1, 3))
    images = np.broadcast_to(colours, (8, side, side, 3)).copy()
    images[:, : side // 2] = 255 - images[:, : side // 2]
    return images.astype(np.uint8)


def write_pictures(base: Base, path: Path) -> str:
    """The eight as both splits of a data set, by its name; a class each, as far as the base's classes go."""
    images = np.concatenate([pictures(base.size)] * 2)
    names = base.class_names or WORDS
    labels = np.tile(np.arange(8) % len(names), 2)
    np.savez(path, images=images, labels=labels, split=np.repeat([0, 1], 8), class_names=np.array(names))
    return f"npz:{path}"


def family_config(folder: Path, base: Path, /, **sections: Any) -> RunConfig:
    """A run on the eight pictures: everything dense is adapted."""
    values: dict[str, Any] = {
        "output": str(folder / "run"),
        "base": {"path": str(base)},
        "data": {"name": write_pictures(load(base), folder / "pictures.npz")},
        "adapter": {"variant": "dense", "targets": EVERYTHING},
        "train": {"steps": 6, "batch_size": 8, "learning_rate": 1e-2, "warmup_steps": 0},
        "validation": {"every": 100, "images": 8},
        "checkpoint": {"every": 100},
        "preview": {"every": None},
        "log": {"every": 50},
        "sampling": {"steps": 6},
        "evaluation": {"images": 8, "splits": 2, "extractor": "digits", "metrics": "is,fid"},
    }
    for name, section in sections.items():
        merge = isinstance(section, dict) and isinstance(values.get(name), dict)
        values[name] = {**values[name], **section} if merge else section
    return RunConfig(**values)


def asked_of(base: Base) -> list[int] | list[str] | None:
    """What the eight pictures are called."""
    if base.takes_text:
        return list(WORDS)
    return [index % base.classes for index in range(8)] if base.classes else None


def through_autoencoder(base: Base) -> np.ndarray:
    """The eight pictures as the base's autoencoder gives them back; as they are for one on pixels."""
    if not base.family.is_latent:
        return pictures(base.size)
    mean, _ = encode_images(base, pictures(base.size), torch.device("cpu"))
    with torch.no_grad():
        return to_uint8(base.family.decode(base, mean))
