"""The scores a report knows: their names, which way they are read, how they are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One score."""

    key: str
    """Its field in a score record; ``val_loss`` is the run's own last validation loss."""
    label: str
    short: str
    """For the head of a column."""
    higher_is_better: bool
    digits: int
    """Decimals written."""
    from_zero: bool = False
    """Whether a linear axis starts at 0: for distances, whose 0 is the goal."""

    def write(self, value: float) -> str:
        """The value as text, the same in every table."""
        return f"{value:.{self.digits}f}"


METRICS: tuple[Metric, ...] = (
    Metric("is_distance", "IS distance |IS - IS of real images|", "IS distance", False, 4, True),
    Metric("fid", "FID", "FID", False, 3, True),
    Metric("kid", "KID", "KID", False, 5, True),
    Metric("accuracy", "accuracy (drawn images: the class that was asked for)", "accuracy", True, 3),
    Metric("precision", "precision", "precision", True, 3),
    Metric("recall", "recall", "recall", True, 3),
    Metric("is_mean", "Inception Score", "IS", True, 3),
    Metric("val_loss", "validation loss", "val. loss", False, 4),
)
BY_KEY = {metric.key: metric for metric in METRICS}

_WIDE = 20


def suits_log_axis(metric: Metric, values: Iterable[float]) -> bool:
    """Whether the values are better seen on a log axis: all above 0, and the largest many times the smallest."""
    values = list(values)
    return (
        not metric.higher_is_better and bool(values) and min(values) > 0 and max(values) > _WIDE * min(values)
    )
