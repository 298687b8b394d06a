"""Stable Diffusion XL: ``UNet2DConditionModel`` with sizes and a pooled embedding (Podell et al. 2023, 2307.01952)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..base import Base
from ..conditioning import Condition
from .latents import Scale
from .stable_diffusion import StableDiffusion

POOLED = "text_embeds"


class StableDiffusionXL(StableDiffusion):
    """A U-Net on latents, asked by two CLIP text encoders and told the picture's size."""

    name, title = "stable-diffusion-xl", "Stable Diffusion XL: text, latents, sizes"
    pipeline = "StableDiffusionXLPipeline"
    encoders = ("text_encoder", "text_encoder_2")
    sampling = MappingProxyType({"steps": 25, "guidance_scale": 5.0})

    def drives(self, config: dict[str, Any]) -> bool:
        """Those with a text and sizes beside the text's embeddings."""
        return config.get("_class_name") == self.network and config.get("addition_embed_type") == "text_time"

    def embed(self, pipeline: Any, prompts: list[str], device: torch.device) -> Condition:
        """{encoder_hidden_states: (B, tokens, width), text_embeds: (B, width)}"""
        embeddings, _, pooled, _ = pipeline.encode_prompt(
            prompts, device=device, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": embeddings, POOLED: pooled}

    def null_condition(self, base: Base, device: torch.device, negative: str = "") -> Condition:
        """The negative prompt; for the empty one zeros, where the pipeline was trained so."""
        encoded = self.encode_prompts(base, [negative], device)
        if negative or not base.parts.index.get("force_zeros_for_empty_prompt", True):
            return encoded
        return {name: torch.zeros_like(rows) for name, rows in encoded.items()}

    def scaling(self, vae: nn.Module) -> tuple[Scale, Scale]:
        """By channel, where the autoencoder says means and deviations of its latents."""
        mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
        if mean is None or std is None:
            return super().scaling(vae)
        mean, std = (torch.tensor(values, device=vae.device).view(1, -1, 1, 1) for values in (mean, std))
        return mean, vae.config.scaling_factor / std

    def predict(
        self, base: Base, network: nn.Module, noisy: Tensor, times: Tensor, condition: Condition
    ) -> Tensor:
        """Pictures are told to be whole: the size they have, and no crop."""
        height, width = (self.factor(base) * side for side in noisy.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width], device=noisy.device, dtype=noisy.dtype)
        added = {POOLED: condition[POOLED], "time_ids": sizes.expand(len(noisy), -1)}
        text = condition["encoder_hidden_states"]
        return network(noisy, times, encoder_hidden_states=text, added_cond_kwargs=added).sample


FAMILY = StableDiffusionXL()
