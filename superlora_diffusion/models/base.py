"""A base: a denoiser, its noise schedule, what it can be asked for, and the family that drives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import BaseModelError
from .composite import PROMPTS, TextAndDenoiser
from .conditioning import Condition, move
from .noising import Noising, noising_of
from .parts import Parts

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

    from .families.family import Family


def _pixels() -> Family:
    from .families.pixels import FAMILY

    return FAMILY


@dataclass
class Base:
    """What training and sampling need to know of a base."""

    network: nn.Module
    """The denoiser."""
    scheduler: SchedulerMixin
    class_names: tuple[str, ...]
    """Names of the classes that can be asked for; empty for an unconditional base and for one that takes text."""
    null_class: int | None
    """The class index that means "no class", or None where the base has none."""
    name: str
    family: Family = field(default_factory=_pixels)
    parts: Parts = field(default_factory=lambda: Parts(Path()))
    """What the denoiser's pipeline has beside it."""

    @property
    def size(self) -> int:
        """Side of the square images, in pixels."""
        return self.family.size(self)

    @property
    def channels(self) -> int:
        """Of the images: 1 or 3."""
        return self.family.image_channels(self)

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """In which the denoiser is held."""
        return next(self.network.parameters()).dtype

    @property
    def classes(self) -> int | None:
        """How many classes can be asked for, or None for an unconditional base."""
        return len(self.class_names) or None

    @property
    def takes_text(self) -> bool:
        """Whether images are asked for by prompts."""
        return self.family.conditioning == "text"

    @property
    def adapts_text(self) -> bool:
        """Whether the text encoders are part of the network."""
        return isinstance(self.network, TextAndDenoiser)

    @property
    def has_null(self) -> bool:
        """Whether it can be asked for nothing in particular, which guidance needs."""
        return self.takes_text or self.null_class is not None

    @cached_property
    def noising(self) -> Noising:
        """How training mixes images with noise."""
        return noising_of(self.scheduler)

    @property
    def adapted(self) -> nn.Module:
        """What adapters and peers are attached to."""
        return self.network

    def enable_gradient_checkpointing(self) -> None:
        """Trade time for memory."""
        self.network.enable_gradient_checkpointing()

    def predict(
        self, noisy: Tensor, times: Tensor, condition: Condition, network: nn.Module | None = None
    ) -> Tensor:
        """The prediction (B, C, h, w) of the denoiser, or of what wraps it."""
        called = self.network if network is None else network
        if self.adapts_text:
            return called(noisy, times, condition)
        return self.family.predict(self, called, noisy, times, condition)

    def condition(self, asked, device: torch.device) -> Condition:
        """What the network gets for images that are asked to be something: classes or prompts."""
        if self.adapts_text:
            return move(self.network.number(asked), device)
        return self.family.condition(self, asked, device)

    def null_condition(self, device: torch.device, negative: str = "") -> Condition:
        """One row that means "nothing in particular", or a negative prompt.

        Raises:
            BaseModelError: if the base has none.
        """
        if self.adapts_text:
            return move(self.network.number([negative]), device)
        return self.family.null_condition(self, device, negative)

    @torch.no_grad()
    def encoded(self, condition: Condition) -> Condition:
        """A condition whose prompts are encoded, so that the steps of a sampler need not do it each time."""
        return self.network.embed(condition) if PROMPTS in condition else condition

    def require_null_class(self, wish: str) -> int | None:
        """The null class, or an error saying what ``wish`` needs it for; None for a base that takes text.

        Raises:
            BaseModelError: if the base has no null class.
        """
        if not self.has_null:
            raise BaseModelError(
                f"base {self.name!r} has no null class, which {wish} needs. Use guidance scale 1 (and "
                "train.class_dropout 0), or name the class index that means 'no class' in base.null_class."
            )
        return self.null_class
