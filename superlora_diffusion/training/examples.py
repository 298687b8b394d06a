"""Training images as the network gets them: pixels or latents, and what each is asked to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.augmentation import augment
from ..data.captions import captions_of
from ..data.config import AugmentConfig
from ..data.records import ImageSet
from ..models.base import Base
from ..models.conditioning import Condition
from ..models.embeddings import Embeddings, cached_embeddings
from ..models.images import to_unit_range
from ..models.latents import Latents, cached_latents, encode_pixels
from ..runs.config import RunConfig

OnDone = Callable[[str, int, int], None]
"""Told what is prepared ("latents", "captions"), how many are done now and of how many."""


class Images(Protocol):
    """Images of one shape as the network works on them, on the CPU."""

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, h, w) for training, with whatever is random about them."""

    def still(self, indices: Tensor) -> Tensor:
        """(B, C, h, w) with nothing random."""


class Pixels:
    """Images in [-1, 1], augmented."""

    def __init__(self, images: np.ndarray, settings: AugmentConfig) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        self.settings = settings

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Augmented as the settings say."""
        return augment(self.still(indices), self.settings, generator)

    def still(self, indices: Tensor) -> Tensor:
        """As they are."""
        return to_unit_range(self.images[indices])


class StoredLatents:
    """Latents from the cache."""

    def __init__(self, latents: Latents) -> None:
        self.latents = latents

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """From the autoencoder's posterior."""
        return self.latents.draw(indices, generator)

    def still(self, indices: Tensor) -> Tensor:
        """Its middle."""
        return self.latents.means(indices)


class FreshLatents:
    """Latents of augmented images, which no cache can hold: encoded as they come."""

    def __init__(self, base: Base, pixels: Pixels, device: torch.device) -> None:
        self.base, self.pixels, self.device = base, pixels, device

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Of images that were augmented first."""
        mean, std = encode_pixels(self.base, self.pixels.draw(indices, generator), self.device)
        return mean + std * torch.randn(mean.shape, generator=generator)

    def still(self, indices: Tensor) -> Tensor:
        """Of the images as they are."""
        return encode_pixels(self.base, self.pixels.still(indices), self.device)[0]


@dataclass
class Examples:
    """The images of one shape, and what each is asked to be."""

    images: Images
    count: int
    labels: Tensor | None
    """(N,) class indices; None for a base that takes text, or nothing."""
    captions: Sequence[str] = ()
    embeddings: Embeddings | None = None
    """Of the captions; None where the text encoders train."""

    def __len__(self) -> int:
        return self.count

    def condition(self, base: Base, indices: Tensor) -> Condition:
        """Of some images, on the CPU."""
        if self.embeddings is not None:
            return self.embeddings.rows([self.captions[int(index)] for index in indices])
        if self.captions:
            return base.condition([self.captions[int(index)] for index in indices], torch.device("cpu"))
        if self.labels is None:
            return {}
        return base.condition(self.labels[indices], torch.device("cpu"))


def make_examples(
    config: RunConfig,
    base: Base,
    sets: Sequence[ImageSet],
    device: torch.device,
    on_done: OnDone = lambda what, done, total: None,
    still: bool = False,
) -> list[Examples]:
    """What a run trains on, or with ``still`` what it is measured on; latents and embeddings are cached.

    Raises:
        DataError: for images without captions where the base takes text.
    """
    captions = [captions_of(part, config.data.caption_template) for part in sets] if base.takes_text else []
    embeddings = _embed(base, [text for part in captions for text in part], device, on_done)
    found = []
    for index, part in enumerate(sets):
        images = _images(config, base, part, device, on_done, still)
        labels = torch.from_numpy(part.labels) if base.classes is not None else None
        told = captions[index] if captions else ()
        found.append(Examples(images, len(part), labels, told, embeddings))
    return found


def _embed(base: Base, captions: list[str], device: torch.device, on_done: OnDone) -> Embeddings | None:
    if not base.takes_text or base.adapts_text:  # what an encoder that trains says today is no use tomorrow
        return None
    total = len(dict.fromkeys(captions))
    return cached_embeddings(base, captions, device, lambda done: on_done("captions", done, total))


def _images(
    config: RunConfig, base: Base, part: ImageSet, device: torch.device, on_done: OnDone, still: bool
) -> Images:
    settings = config.data.augment
    if not base.family.is_latent:
        return Pixels(part.images, settings)
    if still or settings.is_identity:
        told = cached_latents(base, part.images, device, lambda done: on_done("latents", done, len(part)))
        return StoredLatents(told)
    return FreshLatents(base, Pixels(part.images, settings), device)
