"""What the scores see of a set of images: a row of features and of logits for each, and its class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


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
