"""A setting carried to a network of another size: the same structure, the same share of the weights. Imports no torch.

A setting that trains 8,160 of 565,248 numbers is not the same setting on a network of 63,488: what can be kept is how
it is built (targets, groups, order, fold, core, splits, projection, ratio) and the share of the weights that it trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from ..errors import ConfigError
from .config import SuperLoRAConfig
from .naming import Target, as_targets
from .plan import count_parameters


def trained_share(config: SuperLoRAConfig, targets: Iterable[Sequence]) -> Fraction:
    """How many numbers a setting trains for each weight of its targets: count / N, exactly.

    Raises:
        ConfigError: if the settings do not fit the targets.
    """
    targets = as_targets(targets)
    return Fraction(count_parameters(config, targets), sum(target.size for target in targets))


def rescale(config: SuperLoRAConfig, share: Fraction | float, targets: Iterable[Sequence]) -> SuperLoRAConfig:
    """The setting with the rank whose count comes nearest to ``share`` of these targets' weights; the rest stays.

    Nearest is by ratio, since counts are compared on a logarithmic axis: 50 for 100 is as far as 200. Of two ranks
    that are as near the lower one is taken. Where even rank 1 trains more than the share, it is rank 1. A vector
    (order 1: dense, or its numbers spread by a projection) has no rank and stays as it is.

    Args:
        config: the setting as it is on the other network.
        share: count / N there, above 0, as :func:`trained_share` gives it.
        targets: (name, out_features, in_features) triples of this network, in order.

    Raises:
        ConfigError: for a share that is not above 0, a list of ranks, or settings that do not fit the targets.
    """
    if share <= 0:
        raise ConfigError(
            faults=[("share", f"got {share}: a share above 0 is expected, such as 8160 / 565248.")]
        )
    targets = as_targets(targets)
    if config.order == 1:
        return config
    if not isinstance(config.rank, int):
        text = f"got {list(config.rank)}: one number for all modes is rescaled; give one."
        raise ConfigError(faults=[("rank", text)])
    wanted = Fraction(share) * sum(target.size for target in targets)
    tried = {rank: _ratio(count, wanted) for rank, count in _counts(config, wanted, targets)}
    nearest = min(tried, key=lambda rank: (tried[rank], rank))
    return config.model_copy(update={"rank": nearest})


def _counts(
    config: SuperLoRAConfig, wanted: Fraction, targets: tuple[Target, ...]
) -> Iterator[tuple[int, int]]:
    """(rank, count) from rank 1 up to the first that reaches what is wanted, or after which nothing grows."""
    rank, before, count = 0, -1, 0
    while count < wanted and count != before:
        rank, before = rank + 1, count
        count = count_parameters(config.model_copy(update={"rank": rank}), targets)
        yield rank, count


def _ratio(count: int, wanted: Fraction) -> Fraction:
    """The larger over the smaller: 1 where they are equal."""
    return max(count / wanted, wanted / count)
