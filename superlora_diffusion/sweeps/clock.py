"""How long something took, and how long the rest will take, in words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def seconds_left(waiting: Sequence[str], ended: Sequence[tuple[str, float]], parallel: int) -> float | None:
    """Time that the waiting jobs will take; None while no job of any kind has ended.

    Args:
        waiting: kind of each job that has not ended.
        ended: (kind, seconds) of those that did; jobs that took no time say nothing.
        parallel: how many run at once.
    """
    took = [(kind, seconds) for kind, seconds in ended if seconds > 0]
    if not took:
        return None
    of_all = fmean(seconds for _, seconds in took)
    mean = {kind: fmean(s for other, s in took if other == kind) for kind, _ in took}
    return sum(mean.get(kind, of_all) for kind in waiting) / max(1, min(parallel, len(waiting)))
