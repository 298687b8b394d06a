"""Grouping: how the weights of all targets are joined into vectors (arXiv 2403.11887, section 3.1).

Legend: N = weights of all targets, G = groups, n = weights generated for a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from .arithmetic import ceil_div
from .config import SuperLoRAConfig
from .targets import Target, layer_name


@dataclass(frozen=True)
class Grouping:
    """Groups in order; their vectors, one after the other and cut to N, hold the targets in ``order``."""

    sizes: tuple[int, ...]
    """n of each group."""
    order: tuple[int, ...]
    """Target indices in the order in which the vectors hold them."""
    members: tuple[tuple[int, ...], ...] | None
    """Target indices of each group where groups end at matrix borders, else None."""


def make_grouping(config: SuperLoRAConfig, targets: Sequence[Target]) -> Grouping:
    """Group the targets by ``config.groups``.

    Raises:
        ConfigError: if there are no targets, or so many groups that one would be empty.
    """
    if not targets:
        raise ConfigError(faults=[("targets", "no weight was found; at least one is needed.")])
    if isinstance(config.groups, int):
        return _cut_into_runs(config.groups, targets)
    keys = {
        "weight": lambda target: target.name,
        "layer": lambda target: layer_name(target.name, config.targets),
        "shape": lambda target: (target.out_features, target.in_features),
    }
    members: dict[object, list[int]] = {}
    for index, target in enumerate(targets):
        members.setdefault(keys[config.groups](target), []).append(index)
    groups = tuple(map(tuple, members.values()))
    sizes = tuple(sum(targets[index].size for index in group) for group in groups)
    return Grouping(sizes, tuple(index for group in groups for index in group), groups)


def _cut_into_runs(count: int, targets: Sequence[Target]) -> Grouping:
    """N weights in ``count`` runs of n = ceil(N / count); a run may cross matrix borders, the last is cut."""
    total = sum(target.size for target in targets)
    n = ceil_div(total, count)
    if (count - 1) * n >= total:
        filled = ceil_div(total, n)
        text = f"got {count}: {total} weights in runs of {n} fill only {filled}; use at most {filled}, or {total}."
        raise ConfigError(faults=[("groups", text)])
    return Grouping((n,) * count, tuple(range(len(targets))), None)


def split_groups(vectors: Sequence[Tensor], grouping: Grouping, targets: Sequence[Target]) -> list[Tensor]:
    """The groups' vectors (n,) as one flat piece a target, in the order of ``targets``."""
    if grouping.members is None:
        whole = torch.cat(list(vectors)) if len(vectors) > 1 else vectors[0]
        sizes = [target.size for target in targets]
        return list(whole[: sum(sizes)].split(sizes))
    pieces: list[Tensor | None] = [None] * len(targets)
    for vector, members in zip(vectors, grouping.members, strict=True):
        parts = vector.split([targets[index].size for index in members])
        for index, part in zip(members, parts, strict=True):
            pieces[index] = part
    return pieces
