"""Stable Diffusion 1.x and 2.x: ``UNet2DConditionModel`` of ``StableDiffusionPipeline`` (arXiv 2112.10752)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch

from ..conditioning import Condition
from .latents import Latent
from .text import TextConditional


class StableDiffusion(Latent, TextConditional):
    """A U-Net on latents, asked by one CLIP text encoder."""

    name, title = "stable-diffusion", "Stable Diffusion 1.x and 2.x: text, latents"
    network = "UNet2DConditionModel"
    pipeline = "StableDiffusionPipeline"
    sampling = MappingProxyType({"steps": 25, "guidance_scale": 7.5})

    def drives(self, config: dict[str, Any]) -> bool:
        """Those without further embeddings beside the text's."""
        return super().drives(config) and config.get("addition_embed_type") is None

    def embed(self, pipeline: Any, prompts: list[str], device: torch.device) -> Condition:
        """{encoder_hidden_states: (B, tokens, width)}"""
        embeddings, _ = pipeline.encode_prompt(prompts, device, 1, False)
        return {"encoder_hidden_states": embeddings}


FAMILY = StableDiffusion()
