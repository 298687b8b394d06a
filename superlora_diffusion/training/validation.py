"""The held-out loss that decisions are made on: the same images, noise and timesteps at every measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.base import Base
from ..models.conditioning import Condition, move, take_rows
from ..models.noising import stratified_places
from ..randomness import generator_for
from .batches import spread_evenly
from .examples import Examples
from .losses import denoising_loss

# Fixed, so that a result does not depend on the training batch size.
_CHUNK = 128
_LATENT_CHUNK = 8  # networks on latents are large


@dataclass
class Problems:
    """Denoising problems of one shape, on the CPU."""

    clean: Tensor
    """(N, C, h, w)"""
    condition: Condition
    noise: Tensor
    places: Tensor
    """(N,) on the noise schedule."""


class Validation:
    """A fixed set of held-out denoising problems.

    Places are spread evenly over the noise schedule, one stratum an image, in a fixed random order.
    """

    def __init__(self, base: Base, parts: Sequence[tuple[Tensor, Condition]], seed: int) -> None:
        """Args: base, what the network works on (N, C, h, w) and its condition for each shape, a seed."""
        generator = generator_for("validation", seed)
        self.base = base
        self.problems = []
        for clean, condition in parts:
            noise = torch.randn(clean.shape, generator=generator)
            places = stratified_places(len(clean), base.noising.length, generator)
            self.problems.append(Problems(clean, condition, noise, places))

    def __len__(self) -> int:
        return sum(len(part.clean) for part in self.problems)

    @torch.no_grad()
    def loss(self, network: nn.Module, device: torch.device) -> float:
        """Mean squared error over all problems; the network is left in the mode it was in."""
        was_training = network.training
        network.eval()
        total = sum(self._sum_of_losses(part, network, device) for part in self.problems)
        network.train(was_training)
        return total / len(self)

    def measure(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """The loss by the name that a line of metrics has."""
        return {"validation_loss": self.loss(network, device)}

    def _sum_of_losses(self, part: Problems, network: nn.Module, device: torch.device) -> float:
        total, chunk = 0.0, _LATENT_CHUNK if self.base.family.is_latent else _CHUNK
        for start in range(0, len(part.clean), chunk):
            rows = slice(start, start + chunk)
            clean, noise, places = (
                tensor[rows].to(device) for tensor in (part.clean, part.noise, part.places)
            )
            condition = move(take_rows(part.condition, rows), device, self.base.dtype)
            loss = denoising_loss(self.base, network, clean, condition, noise, places)
            total += loss.item() * len(clean)
        return total


def make_validation(base: Base, examples: Sequence[Examples], images: int, seed: int) -> Validation:
    """Held-out problems of at most so many images, evenly spread over all."""
    total = sum(map(len, examples))
    chosen = spread_evenly(total, images)
    parts, first = [], 0
    for part in examples:
        indices = chosen[(chosen >= first) & (chosen < first + len(part))] - first
        if len(indices):
            parts.append((part.images.still(indices), part.condition(base, indices)))
        first += len(part)
    return Validation(base, parts, seed)
