"""The denoising loss: what is predicted, and how each timestep weighs."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor, nn


def prediction_target(scheduler: DDPMScheduler, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the network should say, (B, C, H, W): the noise, the image or v (Salimans & Ho 2022, sec. 4)."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    return scheduler.get_velocity(images, noise, timesteps) if kind == "v_prediction" else images


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


def denoising_loss(
    network: nn.Module,
    scheduler: DDPMScheduler,
    images: Tensor,
    labels: Tensor | None,
    noise: Tensor,
    timesteps: Tensor,
    min_snr_gamma: float | None = None,
) -> Tensor:
    """Mean squared error of the prediction over a batch, a scalar in fp32.

    Args:
        network: the U-Net, called as ``network(noisy, timesteps, class_labels=labels)``.
        scheduler: the base's noise schedule.
        images: (B, C, H, W) in [-1, 1].
        labels: (B,) class indices, or None for an unconditional network.
        noise: (B, C, H, W) standard normal.
        timesteps: (B,) in [0, num_train_timesteps).
        min_snr_gamma: clip of the min-SNR weighting; None weights all timesteps alike.
    """
    noisy = scheduler.add_noise(images, noise, timesteps)
    prediction = network(noisy, timesteps, class_labels=labels).sample
    target = prediction_target(scheduler, images, noise, timesteps)
    errors = (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))
    if min_snr_gamma is not None:
        errors = errors * min_snr_weights(scheduler, timesteps, min_snr_gamma)
    return errors.mean()
