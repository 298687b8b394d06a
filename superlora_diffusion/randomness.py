"""Random generators of their own: each purpose and place has one, seeded by a hash, independent of global state."""

from __future__ import annotations

import hashlib

import torch


def generator_for(purpose: str, *place: int | str) -> torch.Generator:
    """The CPU generator of a purpose and a place, such as ("image", seed, index). The recipe is part of the formats."""
    digest = hashlib.sha256(":".join([f"superlora-{purpose}", *map(str, place)]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
