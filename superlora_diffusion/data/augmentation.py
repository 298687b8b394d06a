"""Random shifts, rotations, scalings and flips of a training batch, as one resampling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from superlora_diffusion.data.config import AugmentConfig

if TYPE_CHECKING:
    from torch import Generator, Tensor


def augment(images: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Each image moved by a transformation of its own, drawn from ``generator`` on the generator's device.

    ``images`` is (B, C, H, W), float, in [-1, 1]; what comes in from outside repeats the border. Bilinear; a
    shift alone moves whole pixels and is exact. With nothing to do the very input is returned, and nothing is
    drawn.
    """
    import torch.nn.functional as F

    if config.is_identity:
        return images
    theta = affine_matrices(config, len(images), images.shape[-2:], generator)
    grid = F.affine_grid(theta.to(images.device, images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def affine_matrices(
    config: AugmentConfig, count: int, shape: tuple[int, int], generator: Generator
) -> Tensor:  # -> (count, 2, 3)
    """From each pixel of the result to the place it is taken from, in units of half a picture.

    Five numbers an image are drawn whatever is switched on, so that switching one thing on leaves the others.
    """
    import torch

    draws = torch.rand(5, count, generator=generator, device=generator.device, dtype=torch.float64)
    height, width = shape
    right, down = (((2 * config.shift + 1) * draws[:2]).floor() - config.shift).unbind()  # whole pixels
    angle = math.radians(config.rotate) * (2 * draws[2] - 1)
    factor = 1 + config.scale * (2 * draws[3] - 1)
    mirror = torch.where((draws[4] < 0.5) & config.flip, -1.0, 1.0)
    cos, sin = angle.cos() / factor, angle.sin() / factor
    # Rows turned in pixels, then divided by the half sides: a picture that is not square keeps its angles.
    theta = torch.zeros(count, 2, 3, dtype=torch.float64, device=draws.device)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * cos, mirror * sin * height / width
    theta[:, 1, 0], theta[:, 1, 1] = -sin * width / height, cos
    shift = torch.stack([2 * right / width, 2 * down / height], dim=-1)  # (count, 2)
    theta[:, :, 2] = -(theta[:, :, :2] @ shift[..., None])[..., 0]
    return theta
