"""What the scores see of a set of images: a row of features and of logits for each, and its class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from superlora_diffusion.evaluation.extractors import Extractor


@dataclass(frozen=True)
class Features:
    """Rows of one extractor, on the CPU; all that is kept of the images."""

    features: Tensor
    """fp32 (N, D)."""
    logits: Tensor
    """fp32 (N, C); C is 0 where the extractor has no classes."""
    labels: np.ndarray | None
    """int64 (N,): the classes asked for, or the real ones; None for none."""

    def __len__(self) -> int:
        return len(self.features)

    def take(self, chosen: np.ndarray) -> Features:
        """The rows ``chosen``, in that order."""
        labels = None if self.labels is None else self.labels[chosen]
        return Features(self.features[chosen], self.logits[chosen], labels)


def stream_features(
    batches: Iterable[np.ndarray], labels: np.ndarray | None, extractor: Extractor, batch_size: int = 256
) -> Features:
    """The rows of images that come in batches, each of which may be forgotten as soon as it is read.

    Args:
        batches: uint8 (B, H, W, C), C 1 (repeated over three channels) or 3.
        labels: (N,) of all batches together, or None.
        batch_size: images in the extractor at once, where a batch holds more.
    """
    pairs = [extractor.features(channels_first(batch), batch_size) for batch in batches]
    features, logits = zip(*pairs, strict=True)
    return Features(torch.cat(features), torch.cat(logits), labels)


def channels_first(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 1 or 3) -> uint8 (B, 3, H, W)."""
    turned = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return turned.expand(-1, 3, -1, -1) if turned.shape[1] == 1 else turned
