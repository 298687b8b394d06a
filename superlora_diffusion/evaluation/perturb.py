"""Random changes that leave a digit readable: the extractor is trained and tested with them.

Generated pictures are a little noisy, blurred, off in colour and contrast. A classifier trained on clean
digits calls such a picture anything with great confidence, and its Inception Score then means nothing.

Every function takes fp32 (B, 3, H, W) in [0, 1] and a CPU generator, draws for each picture on its own, and
returns the same shape in [0, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

MAX_ROTATION = math.radians(14)
MAX_SHEAR = 0.18
MAX_SHIFT = 0.12  # of the picture's side
SCALES = (0.85, 1.15)
MAX_NOISE = 0.15  # standard deviation, pixels in [0, 1]
MIN_CONTRAST = 0.35


def _uniform(batch: int, low: float, high: float, generator: Generator) -> Tensor:
    """(B,) numbers in [low, high)."""
    return low + (high - low) * torch.rand(batch, generator=generator)


def _per_picture(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def affine(pixels: Tensor, generator: Generator) -> Tensor:
    """Rotation, shear, scale and shift; what comes in from outside repeats the border."""
    batch = len(pixels)
    angle = _uniform(batch, -MAX_ROTATION, MAX_ROTATION, generator)
    shear = _uniform(batch, -MAX_SHEAR, MAX_SHEAR, generator)
    zoom_x, zoom_y = (1 / _uniform(batch, *SCALES, generator) for _ in range(2))
    # affine_grid counts in half sides, hence the 2.
    shift_x, shift_y = (2 * _uniform(batch, -MAX_SHIFT, MAX_SHIFT, generator) for _ in range(2))
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([zoom_x * cos, zoom_x * (shear * cos - sin), shift_x], dim=1),
        torch.stack([zoom_y * sin, zoom_y * (shear * sin + cos), shift_y], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def invert(pixels: Tensor, generator: Generator) -> Tensor:
    """Black for white in half of the pictures."""
    flip = _per_picture(torch.rand(len(pixels), generator=generator) < 0.5)
    return torch.where(flip, 1 - pixels, pixels)


def colour_cast(pixels: Tensor, generator: Generator) -> Tensor:
    """Shadows and highlights of each picture tinted towards two random colours, half of the pictures."""
    shape = (2, len(pixels), 3, 1, 1)
    # Shadows go up by at most 0.35 and highlights down by at most 0.35, so that some contrast is left.
    dark, light = 0.35 * torch.rand(shape, generator=generator)
    on = _per_picture(torch.rand(len(pixels), generator=generator) < 0.5)
    return torch.where(on, dark + pixels * (1 - dark - light), pixels)


def contrast(pixels: Tensor, generator: Generator) -> Tensor:
    """Contrast about the middle grey down to MIN_CONTRAST, then as much brightness as fits in [0, 1]."""
    batch = len(pixels)
    gain = _uniform(batch, MIN_CONTRAST, 1.0, generator)
    shift = _uniform(batch, -0.5, 0.5, generator) * (1 - gain)
    on = _per_picture(torch.rand(batch, generator=generator) < 0.6)
    changed = 0.5 + (pixels - 0.5) * _per_picture(gain) + _per_picture(shift)
    return torch.where(on, changed, pixels)


def blur(pixels: Tensor, generator: Generator) -> Tensor:
    """A share in [0, 1] of the [1 2 1]/4 blurred picture mixed in, half of the pictures."""
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    soft = F.conv2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    share = _uniform(len(pixels), 0.0, 1.0, generator)
    share = torch.where(torch.rand(len(pixels), generator=generator) < 0.5, share, torch.zeros_like(share))
    return pixels + _per_picture(share) * (soft - pixels)


def noise(pixels: Tensor, generator: Generator) -> Tensor:
    """Gaussian noise, its strength drawn for each picture, in two thirds of them; clipped to [0, 1]."""
    strength = _uniform(len(pixels), 0.0, MAX_NOISE, generator)
    strength = torch.where(torch.rand(len(pixels), generator=generator) < 0.67, strength, torch.zeros(()))
    drawn = torch.randn(pixels.shape, generator=generator)
    return (pixels + _per_picture(strength) * drawn).clamp(0, 1)


def recolour(pixels: Tensor, generator: Generator) -> Tensor:
    """What happens to the values at the size the net sees: inversion, colour, contrast, blur, noise."""
    for change in (invert, colour_cast, contrast, blur, noise):
        pixels = change(pixels, generator)
    return pixels


def perturb(pixels: Tensor, size: int, generator: Generator) -> Tensor:
    """fp32 (B, 3, H, W) -> (B, 3, size, size): the affine change at full size, the others at ``size``."""
    moved = affine(pixels, generator)
    if moved.shape[-2:] != (size, size):
        moved = F.interpolate(moved, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return recolour(moved.clamp(0, 1), generator)
