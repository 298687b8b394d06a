"""What diffusers draws by itself from the noise that ``sample`` starts from. Run as a program it is a fresh process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from diffusers.pipelines.dit import pipeline_dit
from pipelines import load_pipeline

from superlora_diffusion.sampling.producer import image_generator

CLASSES, PROMPTS = (1, 3), ("a red dot", "oak")


def noise(shape: tuple[int, ...]) -> torch.Tensor:
    """Of two images."""
    return torch.stack([torch.randn(shape, generator=image_generator(0, i)) for i in range(2)])


def plain_images(pipeline: DiffusionPipeline) -> np.ndarray:
    """Two images of four steps, (2, H, W, C), as whole numbers."""
    name = type(pipeline).__name__
    if name != "StableDiffusion3Pipeline":
        latent = {} if name == "DDPMPipeline" else {"clip_sample": False}
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **latent)
    if name == "DDPMPipeline":
        return _pixels(pipeline)
    with patch.object(pipeline_dit, "randn_tensor", lambda *args, **options: noise((4, 8, 8))):
        asked, options = (list(CLASSES), {"guidance_scale": 1.0}) if name == "DiTPipeline" else _text()
        images = pipeline(asked, num_inference_steps=4, output_type="np", **options).images
    return (images * 255).round().astype(int)


def _text() -> tuple[list[str], dict[str, Any]]:
    size = {"height": 16, "width": 16}
    return list(PROMPTS), {"guidance_scale": 3.0, "latents": noise((4, 8, 8)), **size}


@torch.no_grad()
def _pixels(pipeline: DiffusionPipeline) -> np.ndarray:
    """diffusers' pipeline gives its U-Net no classes, so the few lines of its loop stand here."""
    scheduler, drawn = pipeline.scheduler, noise((3, 8, 8))
    labels = torch.tensor(CLASSES) if pipeline.unet.config.num_class_embeds else None
    scheduler.set_timesteps(4)
    for time in scheduler.timesteps:
        said = pipeline.unet(drawn, time, class_labels=labels).sample
        drawn = scheduler.step(said, time, drawn).prev_sample
    return ((drawn.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy().astype(int)


def main(folders: dict[str, list[str]], out: Path) -> None:
    """Images of base folders with adapters on them, {name: [base, adapter]}, into one npz."""
    from superlora_diffusion import load_adapter

    torch.set_num_threads(1)
    found = {}
    for name, (base, adapter) in folders.items():
        pipeline = load_pipeline(Path(base))
        load_adapter(pipeline, adapter)
        with torch.no_grad():
            found[name] = plain_images(pipeline)
    np.savez(out, **found)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
