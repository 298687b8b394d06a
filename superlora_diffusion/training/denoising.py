"""Task denoising: what a run of a diffusion model trains on, its loss, what it is measured by, its previews."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models.base import Base
from ..models.conditioning import Condition, move
from ..progress import Reporter
from ..runs.config import RunConfig
from ..runs.folder import RunFolder
from .data import load_data, load_split
from .examples import Examples, make_examples
from .losses import denoising_loss
from .objective import Objective
from .preview import save_preview
from .prior import check_prior, draw_prior, read_prior
from .validation import Validation, make_validation


class Denoising:
    """See :class:`superlora_diffusion.training.tasks.Task`."""

    def __init__(
        self, config: RunConfig, base: Base, folder: RunFolder, accelerator: Any, preparing: Reporter
    ) -> None:
        self.config, self.base, self.device = config, base, accelerator.device
        null = self._dropped_to()
        self.data = load_data(config, base)
        examples = make_examples(config, base, self.data.train, self.device, preparing.stage)
        prior = self._prepare_prior(folder, accelerator, preparing)
        held_out = make_examples(config, base, self.data.test, self.device, preparing.stage, still=True)
        self.objective = Objective(config, base, examples, prior, null)
        self.captions = [text for part in examples for text in part.captions]
        self.validation = _validation(config, base, held_out)
        base.parts.release()  # autoencoder and text encoders have done their work for now

    def _dropped_to(self) -> Condition | None:
        """What takes the place of dropped classes and captions; None drops none."""
        share, conditional = self.config.train.class_dropout, self.base.takes_text or self.base.classes
        if not (share and conditional):
            return None
        self.base.require_null_class(f"train.class_dropout {share:g}")
        return self.base.null_condition(self.device)

    def _prepare_prior(self, folder: RunFolder, accelerator: Any, preparing: Reporter) -> Examples | None:
        """The images of prior preservation, drawn by one process before anything is attached."""
        check_prior(self.config, self.base)
        if self.config.train.prior is None:
            return None
        self.base.network.to(self.device)
        if accelerator.is_main_process:
            draw_prior(self.config, self.base, folder.prior, preparing.stage)
        accelerator.wait_for_everyone()
        images = read_prior(self.config, folder.prior)
        return make_examples(self.config, self.base, [images], self.device, preparing.stage)[0]

    def loss(self, network: nn.Module, number: int, rank: int, world: int) -> Tensor:
        """Of batch ``number`` of a process."""
        batch = self.objective.batch(number, rank, world)
        condition = move(batch.condition, self.device, self.base.dtype)
        clean, noise, places = (tensor.to(self.device) for tensor in (batch.clean, batch.noise, batch.places))
        weights = None if batch.weights is None else batch.weights.to(self.device)
        gamma = self.config.train.min_snr_gamma
        return denoising_loss(self.base, network, clean, condition, noise, places, gamma, weights)

    def preview(self, path: Path) -> None:
        """A grid of samples."""
        save_preview(path, self.base, self.config, self.captions)


def held_out_problems(config: RunConfig, base: Base, device: torch.device) -> Validation:
    """What a run's held-out loss is measured on."""
    examples = make_examples(config, base, load_split(config, base, "test"), device, still=True)
    return _validation(config, base, examples)


def _validation(config: RunConfig, base: Base, examples: list[Examples]) -> Validation:
    return make_validation(base, examples, config.validation.images, config.validation.seed)
