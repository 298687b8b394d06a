"""An adapter's updates as pairs of narrow matrices, dW = up @ down: what every LoRA format stores.

Exact where a setting is of low rank matrix by matrix; anything else by the singular value decomposition, whose
truncation is the best approximation of its rank (Eckart and Young 1936).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..adapters.layers import kind_of
from ..adapters.low_rank import low_rank_factors, low_rank_targets
from ..adapters.module import SuperLoRA
from ..adapters.places import is_vector, split_name
from ..adapters.targets import ADAPTABLE
from ..errors import AdapterError, ConfigError

DEFAULT_MAX_ERROR = 0.01
# Updates are generated in fp32: singular values below this share of the largest are rounding.
_ROUNDING = 4 * torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Precision:
    """How far updates may be approximated; with neither, exactly where possible and else within 0.01."""

    rank: int | None = None
    """Highest rank of any matrix."""
    max_error: float | None = None
    """Highest relative Frobenius error of any matrix."""

    def __post_init__(self) -> None:
        if self.rank is not None and self.max_error is not None:
            raise ConfigError("rank and max_error are two ways to say the same; give one of them.")
        if self.rank is not None and self.rank < 1:
            raise ConfigError(f"got rank {self.rank}: a whole number of at least 1 is accepted.")
        if self.max_error is not None and not 0 <= self.max_error < 1:
            raise ConfigError(f"got max_error {self.max_error}: a number from 0 to below 1 is accepted.")


class Pair(NamedTuple):
    """up (out, r) and down (r, columns), fp32."""

    up: Tensor
    down: Tensor


@dataclass(frozen=True)
class TargetFactors:
    """The update of one target as a pair, and how far the pair is from it."""

    name: str
    shape: tuple[int, ...]
    """The weight's: (out, in), or (out, in, kh, kw)."""
    pair: Pair
    norm: float
    """Frobenius norm of dW."""
    difference: float
    """Frobenius norm of dW - up @ down."""

    @property
    def rank(self) -> int:
        return self.pair.up.shape[1]

    @property
    def error(self) -> float:
        """Relative error; 0 for an update that is zero, which any pair here meets exactly."""
        return self.difference / self.norm if self.norm else 0.0

    @property
    def count(self) -> int:
        """How many numbers the pair holds."""
        return self.pair.up.numel() + self.pair.down.numel()

    def weights(self) -> Pair:
        """The pair as weights of layers: of a convolution down is (r, in, kh, kw) and up is (out, r, 1, 1)."""
        if len(self.shape) == 2:
            return self.pair
        up, down = self.pair
        return Pair(up.reshape(*up.shape, 1, 1), down.reshape(-1, *self.shape[1:]))


@torch.no_grad()
def factor_adapter(
    adapter: SuperLoRA, precision: Precision | None = None, on_target: Callable[[], object] = lambda: None
) -> list[TargetFactors]:
    """Factor the update of every target, the effective scale folded in.

    Args:
        adapter: an attached adapter.
        precision: how far updates may be approximated.
        on_target: called after each target.

    Raises:
        AdapterError: for an update that is not finite, a grouped convolution, or what is no weight of a Linear or
            Conv2d layer.
    """
    precision = precision or Precision()
    _require_weights(adapter)
    known = low_rank_targets(adapter.plan, adapter.config.projection)
    factored = []
    for index, (name, delta) in enumerate(adapter.deltas().items()):
        _check(name, delta, adapter.layer_of(index))
        exact = None
        if index in known:
            left, right = low_rank_factors(known[index], adapter.tensors(), adapter.scale)
            exact = Pair(left.cpu(), right.t().cpu())
        factored.append(factor(name, delta.cpu(), precision, exact))
        on_target()
    return factored


def _require_weights(adapter: SuperLoRA) -> None:
    """Before the long part: LoRA formats hold weights of Linear and Conv2d layers alone."""
    for index, target in enumerate(adapter.targets):
        layer = adapter.layer_of(index)
        if is_vector(target.name) or not isinstance(layer, ADAPTABLE):
            raise AdapterError(
                f"{target.name} is a {split_name(target.name)[1]} of a {kind_of(layer)}; LoRA formats hold weights of "
                "Linear and Conv2d layers alone. Use format merged."
            )


def _check(name: str, delta: Tensor, layer: torch.nn.Module) -> None:
    if getattr(layer, "groups", 1) != 1:
        raise AdapterError(
            f"{name} is a convolution in {layer.groups} groups, which no LoRA format holds; use format merged."
        )
    if not torch.isfinite(delta).all():
        raise AdapterError(f"the update of {name} holds infinite numbers or NaN; this adapter diverged.")


def factor(name: str, delta: Tensor, precision: Precision, exact: Pair | None = None) -> TargetFactors:
    """Factor one update.

    Args:
        name: the target's.
        delta: dW in its weight's shape.
        precision: how far it may be approximated.
        exact: a pair that makes it; kept as it is unless the matrix needs less, or less is asked for.
    """
    matrix = delta.reshape(delta.shape[0], -1).double()
    u, s, v = _svd_of_pair(exact) if exact is not None else torch.linalg.svd(matrix, full_matrices=False)
    rank = choose_rank(s, precision, exact is not None)
    if exact is not None and rank == exact.up.shape[1]:
        pair = Pair(exact.up.contiguous(), exact.down.contiguous())
    else:
        root = s[:rank].sqrt()
        pair = Pair((u[:, :rank] * root).float(), (root[:, None] * v[:rank]).float())
    difference = torch.linalg.norm(matrix - pair.up.double() @ pair.down.double())
    return TargetFactors(name, tuple(delta.shape), pair, float(torch.linalg.norm(matrix)), float(difference))


def _svd_of_pair(pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """The decomposition of up @ down, by QR of both: the product itself is never decomposed."""
    q_left, r_left = torch.linalg.qr(pair.up.double())
    q_right, r_right = torch.linalg.qr(pair.down.double().t())
    u, s, v = torch.linalg.svd(r_left @ r_right.t(), full_matrices=False)
    return q_left @ u, s, v @ q_right.t()


def choose_rank(values: Tensor, precision: Precision, is_low_rank: bool) -> int:
    """The rank to keep, at least 1.

    Args:
        values: singular values, falling; those that are rounding are dropped in any case.
        precision: what the user asked for.
        is_low_rank: whether an exact pair is known, which nothing but a wish cuts.
    """
    needed = max(1, int((values > values[0] * _ROUNDING).sum()))
    if precision.rank is not None:
        return min(needed, precision.rank)
    if is_low_rank and precision.max_error is None:
        return needed
    allowed = DEFAULT_MAX_ERROR if precision.max_error is None else precision.max_error
    squares = values.square()
    tails = squares.flip(0).cumsum(0).flip(0)  # tails[r] = what is lost at rank r
    fits = tails <= allowed**2 * tails[0]
    smallest = int(fits.int().argmax()) if bool(fits.any()) else len(values)
    return max(1, min(needed, smallest))


@dataclass(frozen=True)
class ErrorReport:
    """How far the factored updates are from the adapter's, and what they cost."""

    ranks: dict[str, int]
    errors: dict[str, float]
    worst: tuple[str, float]
    """The target with the largest relative error."""
    overall: float
    """Norm of all differences over norm of all updates."""
    stored: int
    """Numbers in the factors."""
    parameters: int
    """Numbers the adapter trains."""


def report_errors(factored: list[TargetFactors], parameters: int) -> ErrorReport:
    """Sum up."""
    worst = max(factored, key=lambda target: target.error)
    norm = math.hypot(*(target.norm for target in factored))
    difference = math.hypot(*(target.difference for target in factored))
    return ErrorReport(
        {target.name: target.rank for target in factored},
        {target.name: target.error for target in factored},
        (worst.name, worst.error),
        difference / norm if norm else 0.0,
        sum(target.count for target in factored),
        parameters,
    )
