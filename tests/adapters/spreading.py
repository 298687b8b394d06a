"""What the tests of all fixed maps have in common."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch


def normal(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lengths(n: int) -> list[int]:
    """How many entries of y may be asked for: the last run of a network is cut."""
    return sorted(kept for kept in {1, 2, n // 2, n - 1, n} if 0 < kept <= n)


def assert_writes(spread: Callable[[torch.Tensor], None], wanted: np.ndarray) -> None:
    """Whatever length is asked for, the first entries of y are written, and nothing beside them."""
    for kept in lengths(len(wanted)):
        around = torch.full((kept + 4,), torch.nan, dtype=torch.float64)
        spread(around[2:-2])
        np.testing.assert_allclose(around[2:-2].numpy(), wanted[:kept], atol=1e-12)
        assert around[:2].isnan().all() and around[-2:].isnan().all()
