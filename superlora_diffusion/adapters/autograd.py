"""Generation as one autograd node that keeps nothing and generates again in backward.

Why not the plain graph: gradient checkpointing of the reentrant kind runs backward through the same updates once
a block, and a plain graph is freed by the first pass; the other kind counts the tensors that a block saves, and
generation inside its recomputation would add to them. A node that saves no tensors has neither problem, and the
intermediates of generation need not be held from forward to backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Generate = Callable[[Sequence[Tensor]], list[Tensor]]


def generate_with_gradient(generate: Generate, parameters: Sequence[Tensor]) -> list[Tensor]:
    """``generate(parameters)``, differentiable by the parameters any number of times.

    Under ``torch.compile`` the plain graph is used: the compiler decides what is kept.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return generate(parameters)
    return list(_Generation.apply(generate, *parameters))


class _Generation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, generate: Generate, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.generate, ctx.parameters = generate, parameters
        ctx.versions = [parameter._version for parameter in parameters]
        ctx.set_materialize_grads(False)
        return tuple(generate([parameter.detach() for parameter in parameters]))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if [parameter._version for parameter in ctx.parameters] != ctx.versions:
            raise RuntimeError("an adapter's parameter was changed in place between forward and backward")
        with torch.enable_grad():
            leaves = [parameter.detach().requires_grad_() for parameter in ctx.parameters]
            outputs = ctx.generate(leaves)
            used = [
                (out, gradient)
                for out, gradient in zip(outputs, gradients, strict=True)
                if gradient is not None
            ]
            outs, grads = zip(*used, strict=True)
            return None, *torch.autograd.grad(outs, leaves, grads, allow_unused=True)
