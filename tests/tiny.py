"""The smallest bases, data and configs that are the real thing: 8 pixels, four classes, real folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel

from superlora_diffusion.models.base import Base
from superlora_diffusion.models.storage import save_base
from superlora_diffusion.runs.config import RunConfig

NAMES = ("ash", "birch", "cedar", "oak")
UNET = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}
ZERO_SNR = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def make_base(
    classes: int = 4, null_class: bool = True, schedule: dict[str, Any] | None = None, **unet: Any
) -> Base:
    """A base with fixed random weights; ``classes=0`` is unconditional."""
    torch.manual_seed(7)
    embeds = classes + null_class if classes else None
    network = UNet2DModel(**{**UNET, "num_class_embeds": embeds, **unet}).eval()
    scheduler = DDPMScheduler(**(ZERO_SNR if schedule is None else schedule))
    names = tuple(NAMES[:classes])
    return Base(network, scheduler, names, classes if classes and null_class else None, "tiny")


def write_base(folder: Path, **options: Any) -> Path:
    """A tiny base as a diffusers folder."""
    save_base(make_base(**options), folder)
    return folder


def write_data(path: Path, train: int = 37, test: int = 12, names: tuple[str, ...] = NAMES) -> Path:
    """An npz of 8-pixel colour images, each class with a colour of its own; the counts divide by nothing."""
    generator = np.random.default_rng(0)
    count = train + test
    labels = np.arange(count) % len(names)
    colours = generator.integers(0, 256, (len(names), 3))
    noise = generator.integers(-40, 41, (count, 8, 8, 3))
    images = (colours[labels][:, None, None] + noise).clip(0, 255).astype(np.uint8)
    split = (np.arange(count) >= train).astype(np.int64)
    np.savez(path, images=images, labels=labels, split=split, class_names=np.array(names))
    return path


def run_values(folder: Path, **sections: Any) -> dict[str, Any]:
    """Values of a run of six steps on the tiny base and data in ``folder``; sections are merged in."""
    values: dict[str, Any] = {
        "output": str(folder / "run"),
        "base": {"path": str(folder / "base")},
        "data": {"name": f"npz:{folder / 'data.npz'}"},
        "adapter": {"variant": "lora", "rank": 2},
        "train": {"steps": 6, "batch_size": 4, "warmup_steps": 0, "lr_schedule": "cosine"},
        "validation": {"every": 3, "images": 10},
        "checkpoint": {"every": 100},
        "preview": {"every": None},
        "log": {"every": 2},
        "sampling": {"steps": 2},
        "evaluation": {"images": 8, "splits": 2, "extractor": "digits"},
    }
    for name, section in sections.items():
        merge = isinstance(section, dict) and isinstance(values.get(name), dict)
        values[name] = {**values[name], **section} if merge else section
    return values


def run_config(folder: Path, **sections: Any) -> RunConfig:
    """The same, checked."""
    return RunConfig(**run_values(folder, **sections))
