"""Random numbers of libraries that draw from torch's global generator, made to follow from a run's seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..randomness import generator_for


def seed_for(purpose: str, seed: int) -> int:
    """A seed of 31 bits for a purpose (a name of an option, say), following from the run's."""
    return generator_for("peer", purpose, seed).initial_seed() % 2**31


@contextmanager
def seeded(network: nn.Module, seed: int) -> Iterator[None]:
    """Let torch's global generators follow from the seed for the block, and go on as if nothing had been."""
    devices = {parameter.device for parameter in network.parameters()}
    with torch.random.fork_rng(devices=[device for device in devices if device.type == "cuda"]):
        torch.manual_seed(seed_for("attach", seed))
        yield
