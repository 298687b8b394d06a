"""Task classification: images with labels, cross entropy, and the held-out loss and accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.config import AugmentConfig
from ..data.records import ImageSet
from ..models.classifier import Classifier
from ..models.images import load_for_classifier
from ..progress import Reporter
from ..randomness import generator_for
from ..runs.config import RunConfig
from ..runs.folder import RunFolder
from .batches import batch_indices
from .data import Data
from .examples import Pixels

CHUNK = 128
"""Images at once where nothing trains: fixed, so that a result does not depend on the training batch size."""


class Classification:
    """See :class:`superlora_diffusion.training.tasks.Task`."""

    def __init__(
        self, config: RunConfig, base: Classifier, folder: RunFolder, accelerator: Any, preparing: Reporter
    ) -> None:
        self.config, self.base, self.device = config, base, accelerator.device
        train, test = (load_for_classifier(base, config.data, split) for split in ("train", "test"))
        self.data = Data([train], [test])
        self.images, self.labels = Pixels(train.images, config.data.augment), torch.from_numpy(train.labels)
        self.validation = _validation(config, base, test)

    def loss(self, network: nn.Module, number: int, rank: int, world: int) -> Tensor:
        """Cross entropy of batch ``number`` of a process."""
        seed = self.config.seed
        chosen = batch_indices(len(self.labels), self.config.train.batch_size, number, seed, rank, world)
        generator = generator_for("augment", seed, rank, number)
        torch.manual_seed(generator.initial_seed())  # for dropout layers, which know no generator
        images = self.images.draw(chosen, generator).to(self.device)
        logits = self.base.logits(images, network)
        smoothing = self.config.classification.label_smoothing
        return F.cross_entropy(logits, self.labels[chosen].to(self.device), label_smoothing=smoothing)

    def preview(self, path: Path) -> None:
        """None: a classifier draws nothing."""


class LabelledImages:
    """Held-out images with their labels, on the CPU."""

    def __init__(self, base: Classifier, images: ImageSet, chosen: Tensor | None = None) -> None:
        """Args: the classifier; images as it takes them; which of them, all by default."""
        self.base, self.images = base, Pixels(images.images, AugmentConfig())
        self.labels = torch.from_numpy(images.labels)
        self.chosen = torch.arange(len(images)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def measure(self, network: nn.Module, device: torch.device) -> dict[str, float]:
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
            logits = self.base.logits(self.images.still(rows).to(device), network).cpu()
            labels = self.labels[rows]
            yield F.cross_entropy(logits, labels, reduction="none").double(), logits.argmax(dim=1) == labels


def held_out_images(config: RunConfig, base: Classifier, device: torch.device) -> LabelledImages:
    """What a run's held-out loss and accuracy are measured on."""
    return _validation(config, base, load_for_classifier(base, config.data, "test"))


def _validation(config: RunConfig, base: Classifier, test: ImageSet) -> LabelledImages:
    """At most so many images, evenly spread over all."""
    count = min(config.validation.images, len(test))
    return LabelledImages(base, test, torch.linspace(0, len(test) - 1, count).round().long())
