"""Units of generation: the groups that fill one run of memory, and the targets that are cut from it.

Groups that end at matrix borders are in units of their own, so that each is generated when one of its layers first
runs and its gradient is gone before the next one's is there; small ones share a unit, whose overhead they share. Runs
that cut across matrices are one unit together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .plan import AdapterPlan, GroupPlan
from .products import Product, as_product
from .projection import Arrays, project_into, pull_back


@dataclass(frozen=True)
class Unit:
    """Groups whose vectors, one after the other and cut, hold the weights of some targets in order."""

    groups: tuple[GroupPlan, ...]
    members: tuple[int, ...]
    """Indices of its targets."""
    shapes: tuple[torch.Size, ...]
    """The shapes of their weights."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors it is generated from."""
        return tuple(tensor.name for group in self.groups for tensor in group.tensors)

    @cached_property
    def sizes(self) -> list[int]:
        """How many weights each target has."""
        return [math.prod(shape) for shape in self.shapes]

    @cached_property
    def places(self) -> list[slice]:
        """Where each group's vector lies in the unit's; the last run is cut."""
        total, places, start = sum(self.sizes), [], 0
        for group in self.groups:
            places.append(slice(start, min(start + group.n, total)))
            start += group.n
        return places


SMALL = 2**20
"""Weights up to which groups share a unit: few megabytes."""


def make_units(plan: AdapterPlan, shapes: Sequence[torch.Size]) -> list[Unit]:
    """The units of an adapter; together they hold every target once."""
    if plan.grouping.members is None:
        return [Unit(plan.groups, tuple(range(len(shapes))), tuple(shapes))]
    units: list[Unit] = []
    gathered: list[tuple[GroupPlan, tuple[int, ...]]] = []
    for group, members in zip(plan.groups, plan.grouping.members, strict=True):
        if gathered and sum(other.n for other, _ in gathered) + group.n > SMALL:
            units.append(_unit_of(gathered, shapes))
            gathered = []
        gathered.append((group, members))
    return [*units, _unit_of(gathered, shapes)]


def _unit_of(gathered: Sequence[tuple[GroupPlan, tuple[int, ...]]], shapes: Sequence[torch.Size]) -> Unit:
    members = tuple(index for _, mine in gathered for index in mine)
    return Unit(tuple(group for group, _ in gathered), members, tuple(shapes[index] for index in members))


def write_unit(
    unit: Unit, tensors: Mapping[str, Tensor], arrays: Sequence[Arrays], projection: str, scale: float
) -> Tensor:
    """All weights of a unit as one vector, each group written straight into its place; without gradient.

    Args:
        unit: which groups.
        tensors: trained tensors by name, fp32.
        arrays: fixed arrays of each group of the adapter.
        projection: the kind of F.
        scale: factor on the whole; each group's own comes to it.
    """
    total = sum(unit.sizes)
    out = torch.empty(total, dtype=torch.float32, device=tensors[unit.names[0]].device)
    for group, place in zip(unit.groups, unit.places, strict=True):
        whole = scale * group.factor
        product = as_product(group, tensors, _inner_scale(projection, whole))
        if projection == "none":
            product.write(out[place])
            continue
        x = _numbers(group, product)
        project_into(projection, x, out[place], group.grid, arrays[group.index])
        if projection.endswith("_tanh") and whole != 1:
            out[place].mul_(whole)
    return out


def unit_gradients(
    unit: Unit,
    tensors: Mapping[str, Tensor],
    arrays: Sequence[Arrays],
    projection: str,
    scale: float,
    grad: Tensor,
) -> dict[str, Tensor]:
    """Gradients of the unit's tensors from that of its vector; only what is small is made again.

    Args:
        unit, tensors, arrays, projection, scale: as for :func:`write_unit`.
        grad: (N of the unit,) fp32.
    """
    with torch.enable_grad():
        leaves = {name: tensors[name].detach().requires_grad_() for name in unit.names}
        products = [
            as_product(group, leaves, _inner_scale(projection, scale * group.factor)) for group in unit.groups
        ]
    outputs, gradients = [], []
    for group, product, place in zip(unit.groups, products, unit.places, strict=True):
        part = grad[place]
        fixed = _detached(product)
        if projection != "none":
            if projection.endswith("_tanh"):
                part = part * (scale * group.factor)
            x = _numbers(group, fixed)
            part = pull_back(projection, part, x, group.grid, arrays[group.index])
        outputs += _tensors_of(product)
        gradients += fixed.gradients(part)
    found = torch.autograd.grad(outputs, list(leaves.values()), gradients, allow_unused=True)
    return dict(zip(leaves, found, strict=True))


def _inner_scale(projection: str, scale: float) -> float:
    """The scale goes onto the smallest tensor there is, except where a tanh comes after it."""
    return 1.0 if projection.endswith("_tanh") else scale


def _numbers(group: GroupPlan, product: Product) -> Tensor:
    x = torch.empty(group.m, dtype=torch.float32, device=product.left.device)
    product.write(x)
    return x


def _tensors_of(product: Product) -> list[Tensor]:
    return [value for value in product if isinstance(value, Tensor)]


def _detached(product: Product) -> Product:
    return type(product)(*(value.detach() if isinstance(value, Tensor) else value for value in product))
