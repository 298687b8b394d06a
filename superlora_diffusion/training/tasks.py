"""What a run does with its network: the one thing in which the tasks differ. The loop does all else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ..models.base import Base
from ..models.classifier import Classifier
from ..runs.config import RunConfig

if TYPE_CHECKING:
    from ..progress import Reporter
    from ..runs.folder import RunFolder
    from .data import Data


class HeldOut(Protocol):
    """Problems that are the same at every measurement."""

    def __len__(self) -> int: ...

    def measure(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """``validation_loss``, perhaps more by name; the network is left in the mode it was in."""


class Task(Protocol):
    """Made before anything is attached to the base, by a run folder, accelerate's view and what shows progress."""

    data: Data
    validation: HeldOut

    def loss(self, network: nn.Module, number: int, rank: int, world: int) -> Tensor:
        """The loss of batch ``number`` of a process; a function of seed, rank and number, so that a run can go on."""

    def preview(self, path: Path) -> None:
        """Write a picture of how far it is, where the task has any."""


def make_task(
    config: RunConfig, base: Base | Classifier, folder: RunFolder, accelerator: Any, preparing: Reporter
) -> Task:
    """The task of a run.

    Raises:
        ConfigError, DataError, BaseModelError: for data or settings that do not fit the base.
    """
    if config.classifies:
        from .classification import Classification as kind
    else:
        from .denoising import Denoising as kind
    return kind(config, base, folder, accelerator, preparing)


def held_out_of(config: RunConfig, base: Base | Classifier, device: torch.device) -> HeldOut:
    """What a run measures at each validation, without the rest of it."""
    if config.classifies:
        from .classification import held_out_images as make
    else:
        from .denoising import held_out_problems as make
    return make(config, base, device)
