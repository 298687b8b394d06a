"""What Python blocks of the documents take for granted, by name: ``<!-- given: unet -->``. Small and real."""

from __future__ import annotations

from typing import Any


def unet() -> Any:
    """A denoising network with attention."""
    from tiny import make_base

    return make_base().network


def pictures() -> Any:
    """A list of labelled pictures in memory: uint8 (N, 16, 16, 3), and labels (N,)."""
    import numpy as np

    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)


def labels() -> Any:
    """Their classes."""
    import numpy as np

    return np.arange(20) % 2


GIVEN = {make.__name__: make for make in (unet, pictures, labels)}
