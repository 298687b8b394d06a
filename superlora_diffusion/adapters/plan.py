"""The plan of an adapter: the exact shape of every trained tensor, from config and targets alone.

A group of n weights is generated from m = max(1, ceil(rho n)) numbers, which a core C_k and factor matrices A_ki of
each Kronecker factor make (arXiv 2403.11887, section 3). What is counted is what trains: the core (none where it is
the identity), side_i x rank_i for each factor matrix, f^2 for each dense Kronecker factor, m for a plain vector.
Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from . import folding
from .arithmetic import generated_count
from .config import FULL, SuperLoRAConfig
from .grouping import Grouping, alike_groups, make_grouping, widest
from .naming import Target, as_targets
from .steps import cp_std, with_steps
from .stretches import stretched_count, stretches


@dataclass(frozen=True)
class TensorPlan:
    """One trained tensor: its name, shape and start (standard deviation 0 is all zeros)."""

    name: str
    shape: tuple[int, ...]
    std: float
    even: Literal["columns", "whole"] | None = None
    """Of what the root mean square is exactly ``std``, whatever is drawn: of each column, or of all entries."""

    @property
    def count(self) -> int:
        """Its number of entries; all of them train."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class PartPlan:
    """One Kronecker factor: dense, or factored by core and factor matrices."""

    core: TensorPlan | None
    """None for an identity core."""
    factors: tuple[TensorPlan | None, ...]
    """One a mode, None where the core carries the mode; empty for a dense part, which is its core alone."""

    @property
    def tensors(self) -> Iterator[TensorPlan]:
        """What trains in it: the core, then the factor matrices."""
        yield from (tensor for tensor in (self.core, *self.factors) if tensor is not None)

    @property
    def sides(self) -> tuple[int, ...]:
        """The shape of what it makes. A mode without a factor is a mode of the core."""
        if not self.factors:
            return self.core.shape
        return tuple(
            self.core.shape[mode] if factor is None else factor.shape[0]
            for mode, factor in enumerate(self.factors)
        )


@dataclass(frozen=True)
class GroupPlan:
    """One group: m generated numbers spread over n weights."""

    index: int
    """Place among the groups, from 0; its tensors are called g{index}_..."""
    n: int
    """Weights generated for the group; a last run may be cut to fewer when they are spread over the targets."""
    m: int
    """Numbers that are generated before the projection; n without one."""
    vector: TensorPlan | None
    """The numbers themselves (order 1), else None."""
    parts: tuple[PartPlan, ...]
    """K Kronecker factors, the factored one last; empty for order 1."""
    crop: tuple[int, int] | None
    """What the Kronecker product is cut to before its entries are read (fold "none")."""
    grid: tuple[int, int] = field(compare=False)
    """(out, in) of the weight that the group is; (1, n) of a run, or of several weights."""
    factor: float = 1.0
    """On the group's update, beside the scale of the whole: what ``config.step`` asks for."""

    @property
    def tensors(self) -> Iterator[TensorPlan]:
        """What trains in it, in the order of the adapter's parameters."""
        if self.vector is not None:
            yield self.vector
        for part in self.parts:
            yield from part.tensors

    @property
    def count(self) -> int:
        """How many numbers train."""
        return sum(tensor.count for tensor in self.tensors)


@dataclass(frozen=True)
class AdapterPlan:
    """Targets, their grouping, and the plan of each group."""

    targets: tuple[Target, ...]
    grouping: Grouping
    groups: tuple[GroupPlan, ...]

    @property
    def count(self) -> int:
        """How many numbers train."""
        return sum(group.count for group in self.groups)


def make_plan(config: SuperLoRAConfig, targets: Iterable[Sequence]) -> AdapterPlan:
    """Plan an adapter: every group by itself, for attaching. To count alone, :func:`count_parameters` is faster.

    Args:
        config: its settings.
        targets: (name, out_features, in_features) triples, in order.

    Raises:
        ConfigError: if the settings do not fit the targets.
    """
    targets = as_targets(targets)
    grouping = make_grouping(config, targets)
    columns = widest(targets)
    groups = []
    for index, n in enumerate(grouping.sizes):
        members = [targets[i] for i in grouping.members[index]] if grouping.members else []
        groups.append(_plan_group(config, index, n, members, columns))
    return AdapterPlan(targets, grouping, tuple(groups))


def plan_alike_groups(
    config: SuperLoRAConfig, targets: tuple[Target, ...]
) -> list[tuple[GroupPlan, Sequence[int]]]:
    """The groups of :func:`make_plan`, each kind of group planned once: what closed forms need.

    Args:
        config: its settings.
        targets: in order; a tuple, since what it holds is looked at once for many settings.

    Returns:
        (plan of the first group of its kind, indices of all groups of that kind) pairs.

    Raises:
        ConfigError: if the settings do not fit the targets.
    """
    columns = widest(targets)
    return [
        (_plan_group(config, indices[0], n, members, columns), indices)
        for n, members, indices in alike_groups(config, targets)
    ]


def count_parameters(config: SuperLoRAConfig, targets: Iterable[Sequence]) -> int:
    """How many numbers an adapter trains: ``attach(model, config).num_parameters``, without a model.

    Closed form: no arrays are made, and groups that are alike are planned once. The same, term by term, is
    :func:`superlora_diffusion.adapters.formula.write_formula`.

    Args:
        config: its settings.
        targets: (name, out_features, in_features) triples, in order, as :func:`find_targets` gives them.

    Raises:
        ConfigError: if the settings do not fit the targets (none given, more groups than can be filled).
    """
    kinds = plan_alike_groups(config, as_targets(targets))
    return sum(len(indices) * plan.count for plan, indices in kinds)


def _plan_group(
    config: SuperLoRAConfig, index: int, n: int, members: Sequence[Target], columns: int
) -> GroupPlan:
    return with_steps(config, _plan_tensors(config, index, n, members, columns))


def _generated(config: SuperLoRAConfig, n: int, members: Sequence[Target], columns: int) -> tuple[int, int]:
    """m, the numbers that are generated for a group, and the columns of its fold "none": those of the widest target of
    all, or of the group's longest stretch, so that each of its targets has a row."""
    if config.projection != "singular":
        return generated_count(config.exact_ratio, n), columns
    lengths = stretches(members, config.directions)
    return stretched_count(lengths, config.order > 1 and config.fold == "none"), max(lengths)


def _plan_tensors(
    config: SuperLoRAConfig, index: int, n: int, members: Sequence[Target], columns: int
) -> GroupPlan:
    m, columns = _generated(config, n, members, columns)
    grid = tuple(members[0][1:]) if len(members) == 1 else (1, n)
    if config.order == 1:
        return GroupPlan(index, n, m, TensorPlan(f"g{index}_vector", (m,), 0.0), (), None, grid)
    sides, crop = _sides(config, n, m, members, columns)
    small = (config.split_factor,) * 2
    parts = [_small_part(config, index, k, small) for k in range(1, config.splits)]
    ranks = _ranks(config, sides)
    parts.append(_factored(config, index, config.splits, sides, ranks, True))
    return GroupPlan(index, n, m, None, tuple(parts), crop, grid)


def _sides(
    config: SuperLoRAConfig, n: int, m: int, members: Sequence[Target], columns: int
) -> tuple[tuple[int, ...], tuple[int, int] | None]:
    """Sides of the factored tensor, and what a Kronecker product is cut to."""
    if config.fold == "stack":
        return (len(members), members[0].out_features, members[0].in_features), None
    if config.fold == "none":
        whole = config.groups == "weight" and m == n
        shape = tuple(members[0][1:]) if whole else folding.matrix_sides(m, columns)
        if config.splits == 1:
            return shape, None
        return folding.kronecker_matrix_sides(*shape, config.split_factor, config.splits), shape
    if config.splits > 1:
        side = folding.kronecker_square_side(m, config.split_factor, config.splits, config.side_multiple)
        return (side, side), None
    return folding.square_sides(m, config.order, config.side_multiple), None


def _ranks(config: SuperLoRAConfig, sides: tuple[int, ...]) -> tuple[int, ...]:
    """The rank of each mode: shared for identity and diagonal cores, at most the side for a full one."""
    rank = config.rank
    if config.core == "full" and config.fold == "stack" and isinstance(rank, int):
        rank = (FULL, rank, rank)  # LoTR: the core keeps one slice a layer
    if isinstance(rank, int):
        rank = (rank,) * len(sides)
    if config.core != "full":
        return rank
    return tuple(side if entry == FULL else min(entry, side) for entry, side in zip(rank, sides, strict=True))


def _small_part(config: SuperLoRAConfig, index: int, k: int, sides: tuple[int, int]) -> PartPlan:
    """B_k: dense, or with ``factor_all_splits`` factored at rank min(rank, split_factor)."""
    if not config.factor_all_splits:
        std = config.init_std or (config.split_factor**-0.5 if config.step == "plain" else 1.0)
        return PartPlan(TensorPlan(f"g{index}_k{k}_b", sides, std, _even(config, "whole")), ())
    ranks = tuple(min(rank, side) for rank, side in zip(_ranks(config, sides), sides, strict=True))
    return _factored(config, index, k, sides, ranks, False)


def _factored(
    config: SuperLoRAConfig, index: int, k: int, sides: tuple[int, ...], ranks: tuple[int, ...], zero: bool
) -> PartPlan:
    """Core and factors of one part. Where ``zero``, exactly one of its tensors starts at zero: the core, else A_1."""
    prefix, full = f"g{index}_k{k}", config.core == "full"
    first_is_zero = zero and config.core == "identity"
    factors: list[TensorPlan | None] = []
    for i, (side, rank) in enumerate(zip(sides, ranks, strict=True), start=1):
        std = config.init_std or _factor_std(config, rank, len(sides) - first_is_zero)
        if first_is_zero and i == 1:
            std = 0.0
        carried = full and rank == side
        even = _even(config, "columns")
        factors.append(None if carried else TensorPlan(f"{prefix}_a{i}", (side, rank), std, even))
    if config.core == "identity":
        return PartPlan(None, tuple(factors))
    std, shape = (0.0 if zero else _core_std(config, factors, ranks)), (ranks if full else ranks[:1])
    return PartPlan(TensorPlan(f"{prefix}_core", shape, std, _even(config, "whole")), tuple(factors))


def _even(config: SuperLoRAConfig, what: Literal["columns", "whole"]) -> Literal["columns", "whole"] | None:
    """Plain starts are left as they are drawn; for other steps the draw may not change how far one goes."""
    return None if config.step == "plain" else what


def _factor_std(config: SuperLoRAConfig, rank: int, normal: int) -> float:
    """Of a factor matrix, ``normal`` of which do not start at zero: variance 1/rank, which makes a Tucker step 1."""
    cp_step = config.step != "plain" and config.core != "full"
    return cp_std(rank, normal) if cp_step else rank**-0.5


def _core_std(config: SuperLoRAConfig, factors: list[TensorPlan | None], ranks: tuple[int, ...]) -> float:
    """A core that does not start at zero: variance 1, or, where steps are plain, 1/side where it is a dense B_k."""
    alone = all(factor is None for factor in factors) and config.step == "plain"
    return config.init_std or (ranks[0] ** -0.5 if alone else 1.0)
