"""One batch of training: everything random in it follows from (seed, rank, number)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.base import Base
from ..models.conditioning import Condition, drop_condition, join_rows
from ..randomness import generator_for
from ..runs.config import RunConfig
from .batches import batch_indices, bucket_batches
from .examples import Examples


class Batch(NamedTuple):
    """What a step's loss is taken of, on the CPU."""

    clean: Tensor
    """(B, C, h, w)"""
    condition: Condition
    noise: Tensor
    places: Tensor
    """(B,) on the noise schedule."""
    weights: Tensor | None
    """(B,) of the images; None weighs all alike."""


@dataclass
class Objective:
    """Where batches come from."""

    config: RunConfig
    base: Base
    examples: Sequence[Examples]
    """Of each shape."""
    prior: Examples | None
    """Images that train beside these; see :mod:`.prior`."""
    null: Condition | None
    """One row that takes the place of dropped classes and captions; None drops none."""

    def batch(self, number: int, rank: int, world: int) -> Batch:
        """Batch ``number`` of a process."""
        train, seed = self.config.train, self.config.seed
        counts = list(map(len, self.examples))
        bucket, chosen = bucket_batches(counts, train.batch_size, number, seed, rank, world)
        examples = self.examples[bucket]
        generator = generator_for("noise", seed, rank, number)
        torch.manual_seed(generator.initial_seed())  # for dropout layers, which know no generator
        clean, beside = examples.images.draw(chosen, generator), None
        if self.prior is not None:
            beside = batch_indices(len(self.prior), len(chosen), number, seed, rank, world)
            clean = torch.cat([clean, self.prior.images.draw(beside, generator)])
        noise = torch.randn(clean.shape, generator=generator)
        places = self.base.noising.draw(len(clean), generator)
        condition = examples.condition(self.base, chosen)
        if self.null is not None:
            condition = drop_condition(condition, self.null, train.class_dropout, generator)
        if beside is None:
            return Batch(clean, condition, noise, places, None)
        condition = join_rows(condition, self.prior.condition(self.base, beside))
        # Of a mean over both halves: the mean of the first plus so many times the mean of the second.
        weights = torch.tensor([2.0, 2 * train.prior.weight]).repeat_interleave(len(chosen))
        return Batch(clean, condition, noise, places, weights)
