"""Task classification: images with labels, cross entropy, and the held-out loss and accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.records import ImageSet
from ..models.classifier import Classifier
from ..models.images import load_for_classifier
from ..models.labelled import LabelledImages
from ..progress import Reporter
from ..randomness import generator_for
from ..runs.config import RunConfig
from ..runs.folder import RunFolder
from .batches import batch_indices, spread_evenly
from .data import Data
from .examples import Pixels


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


def held_out_images(config: RunConfig, base: Classifier, device: torch.device) -> LabelledImages:
    """What a run's held-out loss and accuracy are measured on."""
    return _validation(config, base, load_for_classifier(base, config.data, "test"))


def _validation(config: RunConfig, base: Classifier, test: ImageSet) -> LabelledImages:
    """At most so many images, evenly spread over all."""
    return LabelledImages(base, test, spread_evenly(len(test), config.validation.images))
