"""Generation as one autograd node a unit, which keeps nothing and takes the gradient in backward.

Why not the plain graph: gradient checkpointing of the reentrant kind runs backward through the same updates once
a block, and a plain graph is freed by the first pass; the other kind counts the tensors that a block saves, and
generation inside its recomputation would add to them. A node that saves no tensors has neither problem, and the
intermediates of generation need not be held from forward to backward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .projection import Arrays
from .units import Unit, unit_gradients, write_unit


@dataclass(frozen=True)
class Settings:
    """What stands still while one unit is generated."""

    unit: Unit
    arrays: Sequence[Arrays]
    projection: str
    scale: float
    bases: Sequence[Tensor] | None
    """The weights to add the update to, one a target; None for the update alone."""


def generate_unit(settings: Settings, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The update of each target of a unit, or weight + update; differentiable by the tensors any number of times.

    An update alone is fp32; added to a weight it takes the weight's type at the addition.
    """
    parameters = [tensors[name] for name in settings.unit.names]
    if not torch.is_grad_enabled():
        return _generate(settings, parameters)
    return list(_Generation.apply(settings, *parameters))


def _generate(settings: Settings, parameters: Sequence[Tensor]) -> list[Tensor]:
    unit, bases = settings.unit, settings.bases
    named = dict(zip(unit.names, (parameter.detach() for parameter in parameters), strict=True))
    with torch.no_grad(), torch.autocast(parameters[0].device.type, enabled=False):
        flat = write_unit(unit, named, settings.arrays, settings.projection, settings.scale)
        pieces = [piece.view(shape) for piece, shape in zip(flat.split(unit.sizes), unit.shapes, strict=True)]
        if bases is None:
            return pieces
        # In place where the types allow: no update is kept beside weight + update.
        return [
            piece.add_(base) if base.dtype == piece.dtype else base + piece.to(base.dtype)
            for piece, base in zip(pieces, bases, strict=True)
        ]


class _Generation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, settings: Settings, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.settings, ctx.parameters = settings, parameters
        ctx.versions = [parameter._version for parameter in parameters]
        ctx.set_materialize_grads(False)
        return tuple(_generate(settings, parameters))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if [parameter._version for parameter in ctx.parameters] != ctx.versions:
            raise RuntimeError("an adapter's parameter was changed in place between forward and backward")
        settings = ctx.settings
        named = dict(zip(settings.unit.names, ctx.parameters, strict=True))
        with torch.autocast(ctx.parameters[0].device.type, enabled=False):
            grad = _joined(settings.unit, gradients)
            found = unit_gradients(
                settings.unit, named, settings.arrays, settings.projection, settings.scale, grad
            )
        return None, *(found[name] for name in settings.unit.names)


def _joined(unit: Unit, gradients: Sequence[Tensor | None]) -> Tensor:
    """The targets' gradients as one fp32 vector, zeros where a target took no part."""
    if len(gradients) == 1 and gradients[0] is not None and gradients[0].dtype == torch.float32:
        return gradients[0].reshape(-1)
    some = next(gradient for gradient in gradients if gradient is not None)
    flat = torch.empty(sum(unit.sizes), dtype=torch.float32, device=some.device)
    for part, gradient in zip(flat.split(unit.sizes), gradients, strict=True):
        if gradient is None:
            part.zero_()
        else:
            part.copy_(gradient.reshape(-1))
    return flat
