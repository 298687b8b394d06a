"""95 % intervals beside the scores: how far each would move if other images were drawn from the same model.

A bootstrap that draws rows with replacement moves FID itself (its bias grows as the set has fewer distinct
rows: on digits, 1.25 became 1.48 at N 1,000, and the plain interval missed the score it was about), and it
breaks precision and recall, whose neighbours then are copies. So the *spread* alone is estimated, by the
delete-half jackknife (Shao and Wu 1989): the statistic is taken of random halves, and the deviation over the
halves is the standard error of the statistic of all. The interval stands around the score as it is, so it
says nothing about the bias of a small N, which all scores at the same N share.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from superlora_diffusion.evaluation.fidelity import NEIGHBOURS, precision_recall

Interval = tuple[float, float]

NORMAL = 1.959964  # 97.5 % quantile
FID_HALVES = 50
RECALL_HALVES = 10
MAX_FID_FEATURES = (
    768  # an eigenvalue problem of this size a half; wider ones would take longer than they are worth
)
MAX_RECALL_ROWS = 10_000


def around(value: float, error: float, low: float = -math.inf, high: float = math.inf) -> Interval:
    """``value`` plus and minus 1.96 standard errors, cut to [low, high]."""
    return max(low, value - NORMAL * error), min(high, value + NORMAL * error)


def split_reach(std: float, splits: int) -> float | None:
    """Half the width of the 95 % t-interval of a mean over splits, from torch-fidelity's deviation.

    std: over the splits, divided by ``splits`` and not by one less. None for a single split.
    """
    if splits < 2:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, splits - 1)) * std / math.sqrt(splits - 1)


def wilson(share: float, count: int) -> Interval:
    """Wilson's interval (1927) of a share of ``count`` independent images; sound at 0 and 1, too."""
    square = NORMAL**2 / count
    centre = (share + square / 2) / (1 + square)
    reach = NORMAL * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach))


def half_sample_error(statistic: Callable[[Tensor], float], rows: Tensor, repeats: int, seed: int) -> float:
    """Standard error of ``statistic(rows)``: its deviation over random halves of the rows (N, D), N >= 4."""
    generator = np.random.RandomState(seed % 2**32)
    halves = (generator.permutation(len(rows))[: len(rows) // 2] for _ in range(repeats))
    return float(np.std([statistic(rows[torch.from_numpy(half)]) for half in halves], ddof=1))


def kid_error(std: float, subset_size: int, count: int) -> float:
    """Standard error of KID from the deviation over its subsets (the same jackknife, deleting count - size > 0)."""
    return std * math.sqrt(subset_size / (count - subset_size))


def fid_interval(fid: float, generated: Tensor, real: Tensor, seed: int) -> Interval | None:
    """Interval of FID over the generated rows (N, D), the real ones held fixed; None where D is too large."""
    if len(generated) < 4 or generated.shape[1] > MAX_FID_FEATURES:
        return None
    distance = frechet_to(real.double())
    error = half_sample_error(distance, generated.double(), FID_HALVES, seed)
    return around(fid, error, low=0.0)


def recall_interval(recall: float, generated: Tensor, real: Tensor, seed: int) -> Interval | None:
    """Interval of recall over the generated rows (N, D), the real ones held fixed; None where N is large or tiny."""
    if not 2 * (NEIGHBOURS + 1) <= len(generated) <= MAX_RECALL_ROWS:
        return None
    error = half_sample_error(lambda rows: precision_recall(rows, real)[1], generated, RECALL_HALVES, seed)
    return around(recall, error, low=0.0, high=1.0)


def frechet_to(real: Tensor) -> Callable[[Tensor], float]:
    """FID to fixed double rows (M, D), by the symmetric form with tr (R S R)^(1/2), R = S_real^(1/2)."""
    mean, covariance = real.mean(dim=0), torch.cov(real.T)
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def distance(rows: Tensor) -> float:
        other = torch.cov(rows.T)
        cross = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
        traces = covariance.trace() + other.trace() - 2 * cross
        return float((rows.mean(dim=0) - mean).square().sum() + traces)

    return distance
