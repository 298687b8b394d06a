"""The fixed arrays of all groups of an adapter: drawn from its seed, or made from the base's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import AdapterError
from .checksum import checksum
from .config import SuperLoRAConfig
from .plan import AdapterPlan
from .projection import Arrays, draw_arrays
from .singular import derive


def follow_from_base(projection: str) -> bool:
    """Whether the arrays of this kind are made from the base's weights, so that no seed and no checksum tells them."""
    return projection == "singular"


def make_arrays(
    config: SuperLoRAConfig, plan: AdapterPlan, base_weight: Callable[[str], Tensor]
) -> list[Arrays]:
    """The arrays of each group, on the CPU.

    Args:
        config: the adapter's settings.
        plan: their plan.
        base_weight: the base's weight of a target by its name; asked for only where arrays follow from it.

    Raises:
        AdapterError: for weights without singular directions, since they are not finite.
    """
    kind, seed = config.projection, config.seed
    if not follow_from_base(kind):
        return [draw_arrays(kind, group.grid, group.m, seed, group.index) for group in plan.groups]
    weights = [
        _finite(target.name, base_weight(target.name)).reshape(target.out_features, target.in_features)
        for target in plan.targets
    ]
    return [derive([weights[index] for index in mine], config.directions) for mine in plan.grouping.members]


def _finite(name: str, weight: Tensor) -> Tensor:
    if not torch.isfinite(weight).all():
        raise AdapterError(
            f"the base's weight of {name!r} holds infinite numbers or NaN, and so has no singular directions; "
            "use another base or another projection."
        )
    return weight


def checksum_of(config: SuperLoRAConfig, arrays: Sequence[Arrays], stored: bool) -> dict | None:
    """What is kept to know the arrays again; nothing of those that follow from the base, unless they are stored."""
    return checksum(arrays) if stored or not follow_from_base(config.projection) else None
