"""Grouping: how the weights of all targets are joined into vectors (arXiv 2403.11887, section 3.1).

Imports no torch. Legend: N = weights of all targets, G = groups, n = weights generated for a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ..errors import ConfigError
from .arithmetic import ceil_div
from .config import SuperLoRAConfig
from .naming import Target, layer_name


@dataclass(frozen=True)
class Grouping:
    """Groups in order; their vectors, one after the other and cut to N, hold the targets in ``order``."""

    sizes: tuple[int, ...]
    """n of each group."""
    order: tuple[int, ...]
    """Target indices in the order in which the vectors hold them."""
    members: tuple[tuple[int, ...], ...] | None
    """Target indices of each group where groups end at matrix borders, else None."""


class AlikeGroups(NamedTuple):
    """Groups that differ in nothing but their index and their place in the network."""

    n: int
    """Weights of each of them."""
    members: tuple[Target, ...]
    """The targets of the first of them; empty where runs cut across matrices."""
    indices: Sequence[int]


def make_grouping(config: SuperLoRAConfig, targets: Sequence[Target]) -> Grouping:
    """Group the targets by ``config.groups``.

    Raises:
        ConfigError: if there are no targets, or so many groups that one would be empty.
    """
    how = _how(config)
    if isinstance(how, int):
        n = _run_length(how, targets)
        return Grouping((n,) * how, tuple(range(len(targets))), None)
    groups = _gather(how, config.targets, targets)
    sizes = tuple(sum(targets[index].size for index in group) for group in groups)
    return Grouping(sizes, tuple(index for group in groups for index in group), groups)


def alike_groups(config: SuperLoRAConfig, targets: tuple[Target, ...]) -> tuple[AlikeGroups, ...]:
    """The grouping, groups that are alike taken together: all that a count depends on.

    Raises:
        ConfigError: as :func:`make_grouping`.
    """
    by_shape = config.groups != "layer" or config.projection == "singular"
    return _take_together(_how(config), config.targets, targets, by_shape)


def _how(config: SuperLoRAConfig) -> int | str:
    """How targets are grouped: a map that goes by matrices has to know those of the one run of all."""
    return "all" if config.projection == "singular" and config.groups == 1 else config.groups


@lru_cache(maxsize=64)  # many settings are counted on one list of targets
def _take_together(
    groups: int | str, patterns: tuple[str, ...], targets: tuple[Target, ...], by_shape: bool
) -> tuple[AlikeGroups, ...]:
    if isinstance(groups, int):
        return (AlikeGroups(_run_length(groups, targets), (), range(groups)),)
    gathered = _gather(groups, patterns, targets)
    kinds: dict[object, list[int]] = {}
    for index, places in enumerate(gathered):
        shapes = tuple(targets[place][1:] for place in places)
        size = sum(rows * columns for rows, columns in shapes)
        kinds.setdefault(shapes if by_shape else size, []).append(index)
    firsts = [tuple(targets[place] for place in gathered[indices[0]]) for indices in kinds.values()]
    return tuple(
        AlikeGroups(sum(target.size for target in members), members, tuple(indices))
        for members, indices in zip(firsts, kinds.values(), strict=True)
    )


@lru_cache(maxsize=64)
def widest(targets: tuple[Target, ...]) -> int:
    """The largest in_features: the columns of the fold "none"."""
    _require_some(targets)
    return max(target.in_features for target in targets)


def _gather(how: str, patterns: tuple[str, ...], targets: Sequence[Target]) -> tuple[tuple[int, ...], ...]:
    """Target indices of each group, for groups that end at matrix borders."""
    _require_some(targets)
    keys = {
        "all": lambda target: None,
        "weight": lambda target: target.name,
        "layer": lambda target: layer_name(target.name, patterns),
        "shape": lambda target: (target.out_features, target.in_features),
    }
    members: dict[object, list[int]] = {}
    for index, target in enumerate(targets):
        members.setdefault(keys[how](target), []).append(index)
    return tuple(map(tuple, members.values()))


def _run_length(count: int, targets: Sequence[Target]) -> int:
    """n = ceil(N / count): a run may cross matrix borders, the last is cut, none may be empty."""
    _require_some(targets)
    total = sum(target.size for target in targets)
    n = ceil_div(total, count)
    if (count - 1) * n >= total:
        filled = ceil_div(total, n)
        text = f"got {count}: {total} weights in runs of {n} fill only {filled}; use at most {filled}, or {total}."
        raise ConfigError(faults=[("groups", text)])
    return n


def _require_some(targets: Sequence[Target]) -> None:
    if not targets:
        raise ConfigError(faults=[("targets", "no weight was found; at least one is needed.")])
