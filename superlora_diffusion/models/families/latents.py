"""Networks that work on the latents of an autoencoder, shared by the families that do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..base import Base
from .family import Family

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

VAE = "vae"
Scale = float | Tensor


class Latent(Family):
    """A family with an autoencoder (``vae`` in the pipeline's folder)."""

    @property
    def is_latent(self) -> bool:
        """Always."""
        return True

    def load_scheduler(self, folder: str) -> SchedulerMixin:
        """Latents are no images: what is predicted is never clipped to [-1, 1]."""
        from diffusers import DDPMScheduler

        return DDPMScheduler.from_pretrained(folder, clip_sample=False)

    def size(self, base: Base) -> int:
        """The network's own side times the autoencoder's factor."""
        size = base.network.config.sample_size
        return int(size if isinstance(size, int) else size[0]) * self.factor(base)

    def multiple(self, base: Base) -> int:
        """The autoencoder's factor times what the network halves or cuts into patches."""
        config = base.network.config
        patch = config.get("patch_size")
        return self.factor(base) * (patch or 2 ** (len(config.block_out_channels) - 1))

    def shape(self, base: Base, height: int, width: int) -> tuple[int, int, int]:
        """(latent channels, height / factor, width / factor)"""
        factor = self.factor(base)
        return int(base.network.config.in_channels), height // factor, width // factor

    def image_channels(self, base: Base) -> int:
        """RGB."""
        return 3

    def factor(self, base: Base) -> int:
        """By how much the autoencoder shrinks a side."""
        return 2 ** (len(base.parts.config(VAE)["block_out_channels"]) - 1)

    def to_latents(self, base: Base, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, C, h, w) of the scaled latents of images (B, 3, H, W) in [-1, 1]."""
        vae = base.parts.load(VAE)
        posterior = vae.encode(images.to(vae.device, vae.dtype)).latent_dist
        shift, factor = self.scaling(vae)
        return (posterior.mean - shift).float() * factor, posterior.std.float() * factor

    def decode(self, base: Base, clean: Tensor) -> Tensor:
        """Images in [-1, 1], a few at a time to bound the memory."""
        vae = base.parts.load(VAE).to(clean.device)
        shift, factor = self.scaling(vae)
        raw = (clean / factor + shift).to(vae.dtype)
        return torch.cat([vae.decode(part).sample for part in raw.split(8)])

    def scaling(self, vae: nn.Module) -> tuple[Scale, Scale]:
        """What is taken off an autoencoder's latents, and what they are multiplied by then, as the family's pipeline
        does it: numbers, or tensors (1, C, 1, 1)."""
        return 0.0, vae.config.scaling_factor
