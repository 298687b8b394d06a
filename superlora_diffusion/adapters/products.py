"""The last step of each factoring, where the numbers of a group come into being.

Whatever the order and the core, a group's m numbers are the first m entries of a product of two small tensors (or one
tensor as it is). The product is written straight into its place, entries that the fold drops are not made, and its
gradient is taken without making the numbers again. The readable reference is ``factoring.py``, equal by test.

Legend: M = order, s_i = side of mode i, r_i = its rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .arithmetic import ceil_div
from .factoring import khatri_rao, kronecker
from .generation import build_part, numbers_of
from .hadamard import chunk_for
from .plan import GroupPlan, PartPlan


class MatrixProduct(NamedTuple):
    """The entries of left @ right, row-major: (R, r) and (r, C), contiguous, left the longer where there is a choice.

    Measured: with short ranks a product is fastest a few rows at a time, which stay in a core's cache while they are
    written, and its gradients from right as it lies in memory.
    """

    left: Tensor
    right: Tensor

    def write(self, out: Tensor) -> None:
        """Write the first len(out) entries."""
        rows, rest = divmod(out.shape[0], self.right.shape[1])
        whole = out[: out.shape[0] - rest]
        matrix = whole.view(rows, self.right.shape[1])
        for part in self._row_parts(rows):
            torch.mm(self.left[part], self.right, out=matrix[part])
        if rest:
            torch.mv(self.right[:, :rest].t(), self.left[rows], out=out[whole.shape[0] :])

    def gradients(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of left and right from that of the first len(grad) entries."""
        columns = self.right.shape[1]
        rows, rest = divmod(grad.shape[0], columns)
        whole = grad[: rows * columns].view(rows, columns)
        turned = self.left.t().contiguous()
        left, right = torch.zeros_like(self.left), torch.zeros_like(self.right)
        for part in self._row_parts(rows):
            torch.mm(whole[part], self.right.t(), out=left[part])
            right.addmm_(turned[:, part], whole[part])
        if rest:
            last = grad[rows * columns :]
            left[rows] = self.right[:, :rest] @ last
            right[:, :rest].addr_(self.left[rows], last)
        return left, right

    def _row_parts(self, rows: int) -> list[slice]:
        step = max(1, chunk_for(self.right) // 2 // self.right.shape[1])
        return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


class KroneckerProduct(NamedTuple):
    """The entries of left (x) right, cut to ``columns`` columns, row-major: (P, Q) and (r, s) make (P r, Q s)."""

    left: Tensor
    right: Tensor
    columns: int

    def write(self, out: Tensor) -> None:
        """Write the first len(out) entries: at once where they are few, else by tiles that stay in cache."""
        if out.shape[0] <= chunk_for(out):
            whole = self.left[:, None, :, None] * self.right[None, :, None, :]
            whole = whole.reshape(self.left.shape[0] * self.right.shape[0], -1)[:, : self.columns]
            out.copy_(whole.reshape(-1)[: out.shape[0]])
            return
        for p, rows, part in self._tiles(out):
            here, right = out[part], self.right[rows, None, :]
            if right.shape[0] * self.left.shape[1] * self.right.shape[1] == here.shape[0]:
                torch.mul(
                    self.left[p][:, None], right, out=here.view(-1, self.left.shape[1], self.right.shape[1])
                )
            else:
                block = (self.left[p][:, None] * right).reshape(right.shape[0], -1)[:, : self.columns]
                here.copy_(block.reshape(-1)[: here.shape[0]])

    def gradients(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of left and right from that of the first len(grad) entries."""
        if grad.shape[0] <= chunk_for(grad):
            block = self._block(grad, self.left.shape[0] * self.right.shape[0])
            block = block.view(self.left.shape[0], self.right.shape[0], *block.shape[1:])  # (P, r, Q, s)
            left = (block * self.right[None, :, None, :]).sum((1, 3))
            return left, (block * self.left[:, None, :, None]).sum((0, 2))
        left, right = torch.zeros_like(self.left), torch.zeros_like(self.right)
        for p, rows, part in self._tiles(grad):
            block = self._block(grad[part], rows.stop - rows.start)
            left[p] += (block * self.right[rows, None, :]).sum((0, 2))
            right[rows] += (block * self.left[p][:, None]).sum(1)
        return left, right

    def _tiles(self, entries: Tensor) -> Iterator[tuple[int, slice, slice]]:
        """(row of left, rows of right, the entries they make) for each tile of the first len(entries) entries."""
        length, step = entries.shape[0], self.right.shape[0] * self.columns
        most = max(1, chunk_for(entries) // (self.left.shape[1] * self.right.shape[1]))
        for p, start in enumerate(range(0, length, step)):
            stop = min(start + step, length)
            for first in range(0, ceil_div(stop - start, self.columns), most):
                begin = start + first * self.columns
                end = min(begin + most * self.columns, stop)
                yield p, slice(first, first + ceil_div(end - begin, self.columns)), slice(begin, end)

    def _block(self, grad: Tensor, rows: int) -> Tensor:
        """The gradient of some entries as the rows they come from, (rows, Q, s), zero where entries are dropped."""
        q, s = self.left.shape[1], self.right.shape[1]
        if rows * q * s == grad.shape[0]:
            return grad.view(rows, q, s)
        filled = torch.cat([grad, grad.new_zeros(rows * self.columns - grad.shape[0])])
        return F.pad(filled.view(rows, self.columns), (0, q * s - self.columns)).view(rows, q, s)


class Vector(NamedTuple):
    """The entries of a vector as they are."""

    left: Tensor

    def write(self, out: Tensor) -> None:
        """Write the first len(out) entries."""
        out.copy_(self.left[: out.shape[0]])

    def gradients(self, grad: Tensor) -> tuple[Tensor]:
        """The gradient of the vector from that of its first len(grad) entries."""
        if grad.shape[0] == self.left.shape[0]:
            return (grad,)
        return (torch.cat([grad, grad.new_zeros(self.left.shape[0] - grad.shape[0])]),)


Product = MatrixProduct | KroneckerProduct | Vector


def as_product(group: GroupPlan, tensors: Mapping[str, Tensor], scale: float = 1.0) -> Product:
    """The product whose first m entries are a group's numbers times ``scale``; differentiable, and small to make."""
    if group.vector is not None:
        vector = tensors[group.vector.name]
        return Vector(vector if scale == 1 else vector * scale)
    parts = [build_part(part, tensors) for part in group.parts[:-1]]
    if parts:
        right = build_part(group.parts[-1], tensors)
        left = kronecker(parts) * scale
        columns = left.shape[1] * right.shape[1] if group.crop is None else group.crop[1]
        return KroneckerProduct(left, right, columns)
    halves = _halves(group.parts[-1], tensors)
    if halves is None:
        return Vector(numbers_of(group, tensors) * scale)
    left, right = halves
    return MatrixProduct(left if scale == 1 else left * scale, right)


def _halves(part: PartPlan, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Two matrices whose product is the factored tensor; None where no outer mode has a factor matrix."""
    core = None if part.core is None else tensors[part.core.name]
    factors = [None if factor is None else tensors[factor.name] for factor in part.factors]
    if core is None or core.dim() < len(factors):
        return cp_halves(factors, core)
    if factors[-1] is not None:
        left = contract(core, [*factors[:-1], None]).reshape(-1, core.shape[-1])
        return left, factors[-1].t().contiguous()
    if factors[0] is not None:
        return factors[0], contract(core, [None, *factors[1:]]).reshape(core.shape[0], -1)
    return None


def cp_halves(factors: Sequence[Tensor], weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """CP's modes joined in two halves: (s_1 .. s_h, r) and (r, s_h+1 .. s_M), h = M / 2 rounded up.

    Args:
        factors: M matrices (s_i, r).
        weights: (r,) or None for ones.
    """
    half = (len(factors) + 1) // 2
    left, right = (reduce(khatri_rao, part) for part in (factors[:half], factors[half:]))
    return (left if weights is None else left * weights), right.t().contiguous()


def contract(core: Tensor, factors: Sequence[Tensor | None]) -> Tensor:
    """C x_1 A_1 ... x_M A_M, from the last mode to the first, so that no axis moves; None leaves a mode as it is."""
    for mode in reversed(range(core.dim())):
        factor = factors[mode]
        if factor is None:
            continue
        before, after = core.shape[:mode], core.shape[mode + 1 :]
        if not after:
            core = (core.reshape(-1, factor.shape[1]) @ factor.t()).reshape(*before, factor.shape[0])
        else:
            core = factor @ core.reshape(-1, factor.shape[1], after.numel())
            core = core.reshape(*before, factor.shape[0], *after)
    return core
