"""Images with labels, put to a classifier: the loss and the hit of each."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.records import ImageSet
from .classifier import Classifier
from .images import to_unit_range

CHUNK = 128
"""Images at once: fixed, so that a result does not depend on the training batch size."""


class LabelledImages:
    """Held-out images with their labels, on the CPU."""

    def __init__(self, base: Classifier, images: ImageSet, chosen: Tensor | None = None) -> None:
        """Args: the classifier; images as it takes them; which of them, all by default."""
        self.base, self.labels = base, torch.from_numpy(images.labels)
        self.images = torch.from_numpy(images.images).permute(0, 3, 1, 2)
        self.chosen = torch.arange(len(images)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def measure(self, network: nn.Module, device: torch.device | str) -> dict[str, float]:
        """Mean cross entropy and accuracy; the network is left in the mode it was in."""
        was_training = network.training
        network.eval()
        losses, right = map(torch.cat, zip(*self.judge(network, device), strict=True))
        network.train(was_training)
        return {"validation_loss": losses.mean().item(), "validation_accuracy": right.double().mean().item()}

    @torch.no_grad()
    def judge(self, network: nn.Module, device: torch.device | str) -> Iterator[tuple[Tensor, Tensor]]:
        """(cross entropy (B,), whether the likeliest class is the right one (B,)) of one batch after the other."""
        for rows in self.chosen.split(CHUNK):
            images = to_unit_range(self.images[rows].to(device))
            logits, labels = self.base.logits(images, network).cpu(), self.labels[rows]
            yield F.cross_entropy(logits, labels, reduction="none").double(), logits.argmax(dim=1) == labels
