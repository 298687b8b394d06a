"""From trained tensors to weight updates: vec(dW) = scale * F(vec(kron_k [C_k x A_k1 ...])[:m])[:n].

Everything is fp32 and row-major; autocast is off, so that an update does not depend on where it is generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..randomness import generator_for
from .factoring import cp, first_entries, kronecker, tucker
from .grouping import Grouping
from .naming import Target
from .plan import AdapterPlan, GroupPlan, PartPlan, TensorPlan
from .projection import Arrays, project


def generate_deltas(
    plan: AdapterPlan,
    tensors: Mapping[str, Tensor],
    arrays: Sequence[Arrays],
    projection: str,
    scale: float,
    shapes: Sequence[torch.Size],
) -> list[Tensor]:
    """The update of every target, in the order of the plan's targets.

    Args:
        plan: shapes of everything.
        tensors: trained tensors by name, fp32.
        arrays: fixed arrays of each group.
        projection: the kind of F.
        scale: factor on the whole; each group's own comes to it.
        shapes: the targets' weight shapes.
    """
    device = next(iter(tensors.values())).device
    with torch.autocast(device.type, enabled=False):
        pairs = zip(plan.groups, arrays, strict=True)
        vectors = [
            scale * group.factor * generate_group(group, tensors, fixed, projection) for group, fixed in pairs
        ]
        pieces = split_groups(vectors, plan.grouping, plan.targets)
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def generate_group(
    group: GroupPlan, tensors: Mapping[str, Tensor], arrays: Arrays, projection: str
) -> Tensor:
    """The n weights of one group, before scaling, as a vector (n,)."""
    return project(projection, numbers_of(group, tensors), group.grid, arrays)


def numbers_of(group: GroupPlan, tensors: Mapping[str, Tensor]) -> Tensor:
    """The m generated numbers of one group: a plain vector, or the first entries of a factored tensor."""
    if group.vector is not None:
        return tensors[group.vector.name]
    tensor = kronecker([build_part(part, tensors) for part in group.parts])
    if group.crop is not None:
        rows, columns = group.crop
        tensor = tensor[:rows, :columns]
    return first_entries(tensor, group.m)


def build_part(part: PartPlan, tensors: Mapping[str, Tensor]) -> Tensor:
    """One Kronecker factor from its core and factor matrices."""
    core = None if part.core is None else tensors[part.core.name]
    factors = [None if factor is None else tensors[factor.name] for factor in part.factors]
    if not factors:
        return core
    if core is not None and len(part.core.shape) == len(factors):
        return tucker(core, factors)
    return cp(factors, core)


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


def start_tensor(tensor: TensorPlan, seed: int) -> Tensor:
    """The start of one trained tensor: zeros, or normal numbers from a CPU generator of its own."""
    if tensor.std == 0:
        return torch.zeros(tensor.shape, dtype=torch.float32)
    generator = generator_for("start", seed, tensor.name)
    drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
    if tensor.even is not None:
        drawn /= drawn.square().mean(0 if tensor.even == "columns" else None, keepdim=True).sqrt()
    return drawn * tensor.std
