"""The held-out loss that decisions are made on: the same images, noise and timesteps at every measurement."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from ..randomness import generator_for
from .losses import denoising_loss

_CHUNK = 128  # fixed, so that a result does not depend on the training batch size


class Validation:
    """A fixed set of held-out denoising problems.

    Timesteps are spread evenly over the schedule, one stratum an image, in a fixed random order.
    """

    def __init__(self, images: Tensor, labels: Tensor | None, scheduler: DDPMScheduler, seed: int) -> None:
        """Args: images (N, C, H, W) in [-1, 1], labels (N,) or None, the noise schedule, a seed."""
        generator = generator_for("validation", seed)
        count, length = len(images), scheduler.config.num_train_timesteps
        self.images, self.labels, self.scheduler = images, labels, scheduler
        self.noise = torch.randn(images.shape, generator=generator)
        strata = (torch.arange(count) + torch.rand(count, generator=generator)) * (length / count)
        self.timesteps = strata.long().clamp(max=length - 1)[torch.randperm(count, generator=generator)]

    @torch.no_grad()
    def loss(self, network: nn.Module, device: torch.device) -> float:
        """Mean squared error over all problems; the network is left in the mode it was in."""
        was_training = network.training
        network.eval()
        total = 0.0
        for start in range(0, len(self.images), _CHUNK):
            part = slice(start, start + _CHUNK)
            labels = None if self.labels is None else self.labels[part].to(device)
            tensors = (self.images[part], self.noise[part], self.timesteps[part])
            images, noise, timesteps = (tensor.to(device) for tensor in tensors)
            loss = denoising_loss(network, self.scheduler, images, labels, noise, timesteps)
            total += loss.item() * len(images)
        network.train(was_training)
        return total / len(self.images)
