"""Updates of low rank as two small products, y + (x R) L^T with dW = L R^T, and when that is cheaper than adding dW.

Which settings are low-rank matrix by matrix: two modes folded into the matrix's own shape (LoRA, with any core), and
the slices of a stack (LoTR: A_2 C_l A_3^T; CP: A_2 diag(w * A_1[l]) A_3^T), without projection and Kronecker factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError
from .config import SuperLoRAConfig
from .naming import Target
from .places import is_vector
from .plan import AdapterPlan, GroupPlan

# Floating-point operations in the time in which one number is moved between a core and memory: measured by
# scripts/bench/step.py --routes; the choice is not sensitive to it.
FLOPS_PER_MOVE = 20


class LowRank(NamedTuple):
    """Where the two factors of one target's update come from."""

    group: GroupPlan
    slice: int | None
    """Which slice of a stack it is; None for a group that is the matrix."""
    rank: int


def find_low_rank(
    config: SuperLoRAConfig, plan: AdapterPlan, shapes: Sequence[Sequence[int]]
) -> dict[int, LowRank]:
    """The targets, by index, whose update may be applied as two small products.

    Args:
        config: the adapter's settings.
        plan: their plan.
        shapes: the shape of each target. One convolution or vector among them, and every update is added.

    Raises:
        ConfigError: for route "products" where some target's update cannot be applied so.
    """
    vectors = any(is_vector(target.name) for target in plan.targets)
    linear = not vectors and all(len(shape) == 2 for shape in shapes)
    found = low_rank_targets(plan, config.projection) if linear else {}
    if config.route == "products" and len(found) < len(plan.targets):
        text = (
            "got 'products', which needs Linear targets whose update is of low rank by itself (groups 'weight' "
            "with fold 'none', or fold 'stack'; no projection, no splits); use 'auto' or 'weight'."
        )
        raise ConfigError(faults=[("route", text)])
    return found


def low_rank_targets(plan: AdapterPlan, projection: str) -> dict[int, LowRank]:
    """The targets, by index, whose update is a product of two narrow matrices."""
    found: dict[int, LowRank] = {}
    if plan.grouping.members is None or projection != "none":
        return found
    for group, members in zip(plan.groups, plan.grouping.members, strict=True):
        if group.vector is not None or len(group.parts) > 1:
            continue
        part = group.parts[0]
        matrices = [plan.targets[index] for index in members]
        shape = (matrices[0].out_features, matrices[0].in_features)
        narrow = part.factors[-2] is not None and part.factors[-1] is not None
        if not narrow:
            continue
        rank = min(part.factors[-2].shape[1], part.factors[-1].shape[1])
        if len(part.sides) == 2 and len(members) == 1 and part.sides == shape:
            found[members[0]] = LowRank(group, None, rank)
        elif len(part.sides) == 3 and part.sides == (len(members), *shape) and _alike(matrices):
            found |= {index: LowRank(group, place, rank) for place, index in enumerate(members)}
    return found


def _alike(matrices: list[Target]) -> bool:
    return len({(matrix.out_features, matrix.in_features) for matrix in matrices}) == 1


def low_rank_factors(entry: LowRank, tensors: Mapping[str, Tensor], scale: float) -> tuple[Tensor, Tensor]:
    """(L, R) with dW = L R^T: (out, r) and (in, r); differentiable.

    Args:
        entry: which group and slice.
        tensors: trained tensors by name.
        scale: factor on the whole, put onto L with the group's own.
    """
    scale = scale * entry.group.factor
    part = entry.group.parts[0]
    core = None if part.core is None else tensors[part.core.name]
    *first, left, right = (None if factor is None else tensors[factor.name] for factor in part.factors)
    if core is not None and core.dim() == len(part.factors):  # Tucker
        if first:
            core = core[entry.slice] if first[0] is None else torch.tensordot(first[0][entry.slice], core, 1)
        left = left @ core
    else:  # CP
        weights = None if not first else first[0][entry.slice]
        if core is not None:
            weights = core if weights is None else weights * core
        left = left if weights is None else left * weights
    return (left if scale == 1 else left * scale), right


def products_are_cheaper(out_features: int, in_features: int, rank: int, tokens: int, training: bool) -> bool:
    """Whether two small products cost less than generating dW, adding it and (in training) its full gradient.

    Args:
        out_features, in_features, rank: sizes of the update.
        tokens: rows that go through the layer.
        training: whether there is a backward pass.
    """
    per_token, fixed = weight_cost(out_features, in_features, rank, training)
    return products_cost(out_features, in_features, rank, training) * tokens < per_token * tokens + fixed


def products_threshold(out_features: int, in_features: int, rank: int, training: bool) -> int | None:
    """The number of tokens from which on two small products are no longer cheaper (:func:`products_are_cheaper`).

    Both costs are lines in the tokens, so that products are cheaper exactly below it.

    Args:
        out_features, in_features, rank: sizes of the update.
        training: whether there is a backward pass.

    Returns:
        the smallest such number, at least 1 (1: products are never cheaper); None where they are cheaper at any
        number of tokens.
    """
    per_token, fixed = weight_cost(out_features, in_features, rank, training)
    dearer = Fraction(products_cost(out_features, in_features, rank, training)) - Fraction(per_token)
    return None if dearer <= 0 else max(1, math.ceil(Fraction(fixed) / dearer))


def weight_cost(out_features: int, in_features: int, rank: int, training: bool) -> tuple[float, float]:
    """What W + dW costs beyond W: operations a token (the gradient of a whole matrix), and once a pass."""
    size = out_features * in_features
    if not training:
        return 0.0, size * (2 * rank + 3 * FLOPS_PER_MOVE)
    return 2.0 * size, size * (6 * rank + 6 * FLOPS_PER_MOVE)


def products_cost(out_features: int, in_features: int, rank: int, training: bool) -> float:
    """What the two small products cost a token, in operations: arithmetic, and reading and adding their results."""
    both = out_features + in_features
    if not training:
        return 2 * rank * both + FLOPS_PER_MOVE * (in_features + 3 * out_features)
    return 6 * rank * both + FLOPS_PER_MOVE * (4 * in_features + 5 * out_features)
