"""The settings that are listed for a budget: for each family of methods, what is varied and how far. Imports no torch.

A setting is given as the fields that a user would write. The space does not depend on the network or the budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ConfigError, nearest

Fields = dict[str, Any]

RANKS = (*range(1, 33), 40, 48, 64, 96, 128)
GROUPS = (1, 2, 4, 8, 12, 16)
PROJECTIONS = ({}, *({"projection": "fastfood", "ratio": ratio} for ratio in (0.5, 0.1, 0.01)))
# One to nine of each power of ten: the ratio is the only number of a plain projected vector.
FINE_RATIOS = tuple(float(f"{digit}e-{power}") for power in range(6, 0, -1) for digit in range(1, 10))
DIRECTIONS = tuple(range(1, 65))
_JOINED = {
    "order": 2,
    "fold": "none",
    "directions": DIRECTIONS[-1],
}  # numbers of (targets, directions) by two factors

# What is varied beside the variant, axis by axis, the plainest value first; one mapping of fields is one value.
_AXES: dict[str, tuple[str, list[list[Fields]]]] = {
    "lora": ("lora", []),
    "lorta": (
        "lorta",
        [
            [{"groups": groups} for groups in GROUPS],
            [{"order": order} for order in (3, 4, 5)],
            list(PROJECTIONS),
        ],
    ),
    "lotr": ("lotr", []),
    "group_lora": (
        "group_lora",
        [[{"groups": groups} for groups in GROUPS], [{}, {"fold": "none"}], list(PROJECTIONS)],
    ),
    "lokr": (
        "lokr",
        [[{"split_factor": factor} for factor in (2, 4, 8, 16)], [{}, {"factor_all_splits": True}]],
    ),
    "lonkr": (
        "lonkr",
        [
            [{"groups": groups} for groups in GROUPS[:4]],
            [{"splits": splits} for splits in (2, 3, 4)],
            [{"split_factor": factor} for factor in (4, 6, 8)],
            [{}, {"factor_all_splits": True}],
        ],
    ),
    "intrinsic": (
        "dense",
        [[{"groups": 1, "projection": "fastfood", "ratio": ratio} for ratio in FINE_RATIOS]],
    ),
    "spectral": (
        "spectral",
        [
            [
                *({"directions": directions} for directions in DIRECTIONS),
                *({**_JOINED, "rank": rank} for rank in RANKS),
            ]
        ],
    ),
    "dense": ("dense", []),
}
_WITHOUT_RANK = ("dense", "spectral")
FAMILIES = tuple(_AXES)
"""Names of the families, in the order in which equal counts are listed."""


def check_families(names: Iterable[str]) -> tuple[str, ...]:
    """The families asked for, each once.

    Raises:
        ConfigError: with the nearest name, for one that is unknown.
    """
    names = tuple(dict.fromkeys(names))
    for name in names:
        if name not in FAMILIES:
            text = f"got {name!r}.{nearest(name, FAMILIES)} Accepted: {', '.join(FAMILIES)}."
            raise ConfigError(faults=[("families", text)])
    return names


def settings_of(family: str) -> Iterator[Fields]:
    """Every setting of a family, ranks rising innermost. Not all of them are legal on every network."""
    variant, axes = _AXES[family]
    ranked = [] if variant in _WITHOUT_RANK else [[{"rank": rank} for rank in RANKS]]
    for values in itertools.product(*axes, *ranked):
        fields: Fields = {"variant": variant}
        for value in values:
            fields |= value
        yield fields
