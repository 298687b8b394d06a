"""Stable Diffusion 3 and 3.5: ``SD3Transformer2DModel``, flow matching (Esser et al. 2024, arXiv 2403.03206)."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import BaseModelError
from ..base import Base
from ..conditioning import Condition
from .latents import Latent, Scale
from .text import TextConditional


class StableDiffusion3(Latent, TextConditional):
    """A transformer on latents and text together, asked by two CLIP encoders and T5 (which may be missing)."""

    name, title = "stable-diffusion-3", "Stable Diffusion 3: text, latents, flow matching"
    network, part = "SD3Transformer2DModel", "transformer"
    pipeline = "StableDiffusion3Pipeline"
    encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    targets = ("to_q", "to_v", "add_q_proj", "add_v_proj")
    sampling = MappingProxyType({"steps": 28, "guidance_scale": 7.0, "sampler": "euler"})

    def load_scheduler(self, folder: str):
        """Straight lines from image to noise, shifted as the base says."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder)
        if scheduler.config.use_dynamic_shifting:
            raise BaseModelError(
                f"the schedule in {folder} shifts by the picture's size (use_dynamic_shifting), which is not "
                "supported; a fixed shift is accepted, as Stable Diffusion 3 and 3.5 have it."
            )
        return scheduler

    def text_pipeline(self, base: Base, device: torch.device) -> Any:
        """Where T5 is missing, the pipeline asks its transformer for the width of the zeros in its place."""
        pipeline = super().text_pipeline(base, device)
        pipeline.transformer = SimpleNamespace(config=base.network.config)
        return pipeline

    def embed(self, pipeline: Any, prompts: list[str], device: torch.device) -> Condition:
        """{encoder_hidden_states: (B, tokens, width), pooled_projections: (B, width)}"""
        embeddings, _, pooled, _ = pipeline.encode_prompt(
            prompts, None, None, device=device, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": embeddings, "pooled_projections": pooled}

    def size_fault(self, base: Base, height: int, width: int) -> str | None:
        """Places of patches are embedded up to a certain number of them."""
        longest = base.network.config.pos_embed_max_size * self.multiple(base)
        return None if max(height, width) <= longest else f"works on sides of {longest} px at most"

    def scaling(self, vae: nn.Module) -> tuple[Scale, Scale]:
        """Shifted, too: the families before it leave a shift_factor unread, as their pipelines do."""
        return vae.config.get("shift_factor") or 0.0, vae.config.scaling_factor

    def predict(
        self, base: Base, network: nn.Module, noisy: Tensor, times: Tensor, condition: Condition
    ) -> Tensor:
        """The direction from image to noise."""
        return network(noisy, timestep=times.expand(len(noisy)), **condition).sample


FAMILY = StableDiffusion3()
