"""Attached adapters whose updates are large enough to see, and comparisons of what networks draw."""

from __future__ import annotations

from functools import lru_cache

import torch
from pipelines import denoiser, draw, load_pipeline

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.exchange.exporting import Attached

LORA = {"variant": "lora", "rank": 3}
LORTA = {"variant": "lorta", "rank": 4}
# Every kind of layer: attention, feed-forward, convolutions of kernel 1 and 3, embeddings.
EVERYWHERE = {"variant": "lora", "rank": 2}


def fill(adapter, size=0.5):
    """Random numbers in every tensor."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return adapter.requires_grad_(False)


def attached_to(folder, size=0.5, targets=None, scale=1.0, **config):
    """(pipeline, attached adapter) of a pipeline folder."""
    pipeline = load_pipeline(folder)
    network = denoiser(pipeline)
    settings = SuperLoRAConfig(**config, **({"targets": targets} if targets else {}))
    adapter = fill(attach(network, settings), size)
    adapter.set_scale(scale)
    return pipeline, Attached(network, adapter, folder, str(folder), "tiny-adapter", "0123456789ab")


def difference(first, second):
    return float((first - second).abs().max())


def assert_same_and_not_base(ours, theirs, base, tolerance=2e-4):
    """Theirs draws what ours draws, and neither draws what the base draws."""
    assert difference(ours, base) > 0.05, "the update is too small to prove anything"
    assert difference(ours, theirs) < tolerance


@lru_cache
def base_image(folder):
    return draw(load_pipeline(folder))
