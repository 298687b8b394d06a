"""Adapters in folders, with updates that are not zero: what the tests of inspecting and comparing share."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import make_base, write_base

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters import AdapterCard
from superlora_diffusion.adapters.module import SuperLoRA
from superlora_diffusion.peers import Peer, attach_peer


@torch.no_grad()
def fill(parameters, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def save_ours(folder: Path, base: Path | None = None, seed: int = 0, **fields) -> SuperLoRA:
    """A SuperLoRA adapter on the tiny network, its numbers seeded; ``base`` is the base it names."""
    adapter = attach(make_base().network, SuperLoRAConfig(**fields))
    fill(adapter.parameters(), seed)
    adapter.save_pretrained(folder, card=_card(base))
    return adapter


def save_peer(folder: Path, method: str, settings=None, base: Path | None = None, seed: int = 0) -> Peer:
    """Another method on the tiny network."""
    peer = attach_peer(make_base().network, method, settings, 0)
    fill(peer.parameters.values(), seed)
    peer.save(folder, _card(base))
    return peer


def _card(base: Path | None) -> AdapterCard:
    return AdapterCard(
        base=None if base is None else str(base),
        data={"name": "trees"},
        training={"steps": 6, "learning_rate": 0.02},
    )


def tiny_base(folder: Path) -> Path:
    """The base that these adapters were made on, as a folder."""
    return write_base(folder)
