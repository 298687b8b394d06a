"""Steps: how far one step of the optimiser moves an update, and starts and factors that make it equally far for all.

Adam's first step of size lr moves every trained number by lr times a sign. What that does to dW depends on the
setting. At the start each term of dW holds the group's zero tensor exactly once, so that to first order in lr only the
move of that tensor counts: dW after the step is the group's own generation with +-lr where the zeros were. With signs
taken as random, and the rest of the start being independent normal numbers, all terms of an entry of dW are
uncorrelated, so that its mean square is the number of terms times the mean squares of what they multiply
(g: root-mean-square entry of dW per unit of lr, r: rank, M: order, sigma: standard deviation of a start):

    vector            g = 1
    CP, identity      g = sqrt(r) sigma^(M-1)             (A_1 moves, the others multiply)
    CP, diagonal      g = sqrt(r) sigma^M                 (the core moves)
    Tucker            g = prod over factored modes of sqrt(r_i) sigma_i
    Kronecker         g = that of the last factor, times the rms entry of each B_k

Cutting, shuffling and spreading by F keep mean squares (a tanh to first order), so that none of them is in g, and no
side, n or N is. (Not so ``singular``, whose numbers are in units of each matrix: there g is theirs.) That is a mean
over starts. Given one start, only mean squares of drawn columns are in the same terms (CP: sum_r of the product of
those of columns r; Tucker: the product of those of the A_i; B_k: of all its entries), so that starts whose columns are
scaled to sigma exactly (``TensorPlan.even``) have this g each, and not 0.5 or 2 times it, as a short factor of many
may. What is left to chance is which of many entries are cut, and a B_k that is factored, too.

Where no standard deviation is asked for, starts are chosen at which g is 1 (CP: :func:`cp_std`; Tucker: variance
1/rank; B_k: 1), and no factor is needed; else the factor 1/g does it. Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from .config import SuperLoRAConfig
    from .plan import GroupPlan, PartPlan, TensorPlan

GAIN_EXPONENT = 0.5
"""alpha of ``step: gain``. Of a gradient over n weights, a random subspace of p dimensions holds a share p/n of the
square, so that the cosine between a step in it and the gradient is about sqrt(p/n). Steps of equal length then lower
the loss in proportion to sqrt(p/n), and equally far if they are kappa = (n/p)^(1/2) times as long. Measured, it is the
exponent at which one rate serves all settings best (docs/results.md)."""

SINGULAR_GAIN = 50.0
"""kappa under ``singular``, where m numbers are generated from p, is this times (m/p)^alpha. The argument above does
not hold there: no direction is random, and a number says by what share of its matrix a step moves it, whatever n is.
So this one is measured, not derived: with it such settings learn best at the rate of others on the same targets, to a
factor of two (docs/results.md)."""

_SMALLEST, _LARGEST = 1e-30, 1e30


def step_rms(group: GroupPlan) -> float:
    """g: root-mean-square entry of a group's dW, before any factor, after one sign step of size 1 from the start.

    Under ``singular`` that of the generated numbers.
    """
    return math.prod(_rms_of(part) for part in group.parts)  # 1 for a plain vector, which has no parts


def with_steps(config: SuperLoRAConfig, group: GroupPlan) -> GroupPlan:
    """The group with the factor on its update and the starts that ``config.step`` asks for.

    ``plain``: as it is. ``rms``: the factor 1/g. ``gain``: each of its T tensors is held as a kappa-th of what the
    update is made of, kappa = max(1, n/p)^alpha (SINGULAR_GAIN max(1, m/p)^alpha under ``singular``), so that a rate of
    lr moves all of them by kappa lr, not only the one that starts at zero: the starts are divided by kappa, and the
    factor is kappa^T / g.

    Args:
        config: settings.
        group: its plan, n weights generated from p trained numbers.

    Raises:
        ConfigError: as :func:`rms_factor`.
    """
    if config.step == "plain":
        return group
    factor = rms_factor(config, group)
    if config.step == "rms":
        return replace(group, factor=factor)
    kappa = _gain(config, group)
    tensors = sum(1 for _ in group.tensors)
    parts = tuple(_divided_part(part, kappa) for part in group.parts)
    return replace(group, parts=parts, factor=factor * kappa**tensors)


def _gain(config: SuperLoRAConfig, group: GroupPlan) -> float:
    """kappa: how many times lr the first step moves what the map F takes (``singular``) or makes (all others)."""
    is_singular = config.projection == "singular"
    spread = group.m if is_singular else group.n
    # More numbers than weights span no more than them.
    kappa = max(1.0, spread / group.count) ** GAIN_EXPONENT
    return SINGULAR_GAIN * kappa if is_singular else kappa


def _divided_part(part: PartPlan, kappa: float) -> PartPlan:
    """The part with starts that are a kappa-th."""
    core, *factors = (
        None if tensor is None else replace(tensor, std=tensor.std / kappa)
        for tensor in (part.core, *part.factors)
    )
    return replace(part, core=core, factors=tuple(factors))


def rms_factor(config: SuperLoRAConfig, group: GroupPlan) -> float:
    """1/g: with it on the update, the first step of lr moves dW by lr.

    Args:
        config: settings.
        group: its plan.

    Raises:
        ConfigError: for an ``init_std`` with which a step is so small or large that no factor can mend it.
    """
    g = step_rms(group)
    if not _SMALLEST < g < _LARGEST:
        text = (
            f"got {config.init_std:g}: one step would move the update by {g:.3g} times its size, which step "
        )
        raise ConfigError(
            faults=[("init_std", f"{text}{config.step!r} cannot mend; use a value nearer to 1, or null.")]
        )
    return 1.0 if math.isclose(g, 1, rel_tol=1e-9) else 1 / g  # rounding is no reason to multiply


def cp_std(rank: int, matrices: int) -> float:
    """sigma of the normal factor matrices of a CP tensor at which its step, or its entry, is 1: r^(-1/2k).

    Args:
        rank: r.
        matrices: k, how many of the factors start normal: r sigma^(2k) = 1.
    """
    return rank ** (-0.5 / matrices)


def _rms_of(part: PartPlan) -> float:
    """Of what a part makes: where it holds the zero tensor, per unit of its move."""
    factors = [factor for factor in part.factors if factor is not None]
    stds = math.prod(_std(tensor) for tensor in part.tensors)
    is_cp = bool(factors) and (part.core is None or len(part.core.shape) < len(part.factors))
    ranks = [factor.shape[1] for factor in (factors[:1] if is_cp else factors)]
    return math.sqrt(math.prod(ranks)) * stds


def _std(tensor: TensorPlan) -> float:
    """What a tensor multiplies by: the zero one moves by 1."""
    return tensor.std or 1.0
