"""Noising for training: how a batch is mixed with noise, and what the network should say of it.

Two kinds: diffusion on a table of alphas (epsilon, v or the image is predicted), and flow matching on straight lines.
Both number the places of their schedule from 0, which is what is drawn, stratified and stored.
"""

from __future__ import annotations

from typing import Protocol

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, SchedulerMixin
from diffusers.training_utils import compute_snr
from torch import Tensor


class Noising(Protocol):
    """One kind of noising on one schedule. ``places`` are (B,) whole numbers in [0, length)."""

    length: int

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) places for training."""

    def times(self, places: Tensor) -> Tensor:
        """(B,) what the network is told of each place."""

    def noisy(self, clean: Tensor, noise: Tensor, places: Tensor) -> Tensor:
        """(B, C, H, W) the mixture."""

    def target(self, clean: Tensor, noise: Tensor, places: Tensor) -> Tensor:
        """(B, C, H, W) what the network should say of the mixture."""


class Diffusion:
    """Diffusion by a table of alphas (Ho et al. 2020); places are timesteps."""

    def __init__(self, scheduler: DDPMScheduler) -> None:
        self.scheduler = scheduler
        self.length = scheduler.config.num_train_timesteps

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Uniform timesteps."""
        return torch.randint(0, self.length, (count,), generator=generator)

    def times(self, places: Tensor) -> Tensor:
        """The timesteps themselves."""
        return places

    def noisy(self, clean: Tensor, noise: Tensor, places: Tensor) -> Tensor:
        """sqrt(alpha_bar) x + sqrt(1 - alpha_bar) noise."""
        return self.scheduler.add_noise(clean, noise, places)

    def target(self, clean: Tensor, noise: Tensor, places: Tensor) -> Tensor:
        """The noise, the image or v (Salimans & Ho 2022, sec. 4), by the schedule's prediction type."""
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return noise
        return self.scheduler.get_velocity(clean, noise, places) if kind == "v_prediction" else clean


class FlowMatching:
    """Straight lines from image to noise (Lipman et al. 2023, arXiv 2210.02747; Esser et al. 2024, arXiv 2403.03206).

    Places number the schedule's sigmas from pure noise (0) downwards, its shift included.
    """

    def __init__(self, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
        fresh = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)  # sampling rewrites its tables
        self.sigmas, self.timesteps = fresh.sigmas, fresh.timesteps
        self.length = len(self.timesteps)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Logit-normal places: the middle of the lines more often than their ends (Esser et al. 2024, sec. 3.1)."""
        share = torch.sigmoid(torch.randn((count,), generator=generator))
        return (share * self.length).long().clamp(max=self.length - 1)

    def times(self, places: Tensor) -> Tensor:
        """1000 sigma."""
        return self.timesteps.to(places.device)[places]

    def noisy(self, clean: Tensor, noise: Tensor, places: Tensor) -> Tensor:
        """(1 - sigma) x + sigma noise."""
        sigma = self.sigmas.to(clean)[places].reshape(-1, *[1] * (clean.dim() - 1))
        return torch.lerp(clean, noise, sigma)

    def target(self, clean: Tensor, noise: Tensor, places: Tensor) -> Tensor:
        """The line's direction: noise - x."""
        return noise - clean


def noising_of(scheduler: SchedulerMixin) -> Noising:
    """The noising of a base's scheduler."""
    is_flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    return FlowMatching(scheduler) if is_flow else Diffusion(scheduler)


def stratified_places(count: int, length: int, generator: torch.Generator) -> Tensor:
    """(count,) places spread evenly over a schedule, one stratum an image, in random order."""
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) * (length / count)
    return strata.long().clamp(max=length - 1)[torch.randperm(count, generator=generator)]


def min_snr_weights(scheduler: DDPMScheduler, timesteps: Tensor, gamma: float) -> Tensor:
    """Min-SNR weights (B,): min(SNR, gamma) on the image's error (Hang et al. 2023, arXiv 2303.09556, 3.4).

    In units of the prediction's error that is divided by SNR for epsilon and by SNR + 1 for v.
    """
    snr = compute_snr(scheduler, timesteps)
    kind = scheduler.config.prediction_type
    clipped = snr.clamp(max=gamma)
    if kind == "epsilon":
        return torch.where(snr > 0, clipped / snr.clamp_min(1e-12), torch.ones_like(snr))
    return clipped / (snr + 1) if kind == "v_prediction" else clipped
