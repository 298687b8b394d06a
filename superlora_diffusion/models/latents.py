"""Latents of images, encoded once and kept in the cache folder.

Images are encoded in chunks of 64 in the order they come. A chunk's file is named after the family, the autoencoder and
the chunk's bytes, so an entry is never out of date, and images that are added at the end leave what was encoded before
in use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.cache import cache_root, cached_file
from .base import Base
from .families.latents import VAE
from .images import to_unit_range

FOLDER = "latents"
_CHUNK = 64
_AT_ONCE = 8  # images that the autoencoder sees together: at 1024 px each takes gigabytes


class Latents:
    """Latents (N, C, h, w) of a set of images, read from the cache row by row."""

    def __init__(self, chunks: list[Path], counts: list[int]) -> None:
        self._chunks = chunks
        self._first = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._first[-1])

    def moments(self, index: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation (C, h, w) of one image's latents, scaled as the network wants them."""
        place = int(np.searchsorted(self._first, index, side="right")) - 1
        row = index - int(self._first[place])
        with safe_open(self._chunks[place], framework="pt") as file:
            return file.get_slice("mean")[row], file.get_slice("std")[row]

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of some images, (B, C, h, w), drawn from the autoencoder's posterior."""
        mean, std = map(torch.stack, zip(*(self.moments(int(index)) for index in indices), strict=True))
        return mean + std * torch.randn(mean.shape, generator=generator)

    def means(self, indices: Tensor) -> Tensor:
        """The middle of the posterior of some images, (B, C, h, w)."""
        return torch.stack([self.moments(int(index))[0] for index in indices])


def cached_latents(
    base: Base, images: np.ndarray, device: torch.device, on_images: Callable[[int], None] = lambda done: None
) -> Latents:
    """The latents of images, uint8 (N, H, W, 3); what is not in the cache is encoded.

    Args:
        base: of a family that works on latents.
        images: prepared to the size that the network is trained at.
        device: where to encode.
        on_images: called with the number of images of each finished chunk.

    Raises:
        DataError: the cache folder cannot be written.
    """
    folder = (
        cache_root() / FOLDER / f"{base.family.name}-{base.parts.digest(VAE)}"
    )  # families scale differently
    paths, counts = [], []
    for start in range(0, len(images), _CHUNK):
        chunk = np.ascontiguousarray(images[start : start + _CHUNK])
        name = hashlib.sha256(repr(chunk.shape).encode() + chunk.tobytes()).hexdigest()[:32]
        path = folder / f"{name}.safetensors"

        def write(partial: Path, chunk: np.ndarray = chunk) -> None:
            mean, std = encode_images(base, chunk, device)
            save_file({"mean": mean, "std": std}, partial)

        cached_file(path, write, _is_whole)
        paths.append(path)
        counts.append(len(chunk))
        on_images(len(chunk))
    return Latents(paths, counts)


@torch.no_grad()
def encode_images(base: Base, images: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the scaled latents, on the CPU, of images uint8 (N, H, W, 3)."""
    pixels = to_unit_range(torch.from_numpy(images).permute(0, 3, 1, 2))
    return encode_pixels(base, pixels, device)


@torch.no_grad()
def encode_pixels(base: Base, pixels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the scaled latents, on the CPU, of images (N, 3, H, W) in [-1, 1]."""
    base.parts.load(VAE).to(device)
    parts = [base.family.to_latents(base, part) for part in pixels.split(_AT_ONCE)]
    mean, std = (torch.cat(found).cpu().contiguous() for found in zip(*parts, strict=True))
    return mean, std


def _is_whole(path: Path) -> bool:
    with safe_open(path, framework="pt") as file:
        return set(file.keys()) == {"mean", "std"}
