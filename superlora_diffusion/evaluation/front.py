"""The Pareto front: the settings that no other beats in both parameters and score. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]], higher_is_better: bool = False) -> list[int]:
    """Indices of the non-dominated points, fewest parameters first.

    A point is dominated if another has no more parameters and no worse a score, and is better in one of the two. Of
    equal points none dominates the other: all are kept, in their order.

    Args:
        points: (parameters, score) pairs.
        higher_is_better: which way the score is read.

    Raises:
        ValueError: a value is not finite, so that it cannot be ordered.
    """
    if not all(math.isfinite(value) for point in points for value in point):
        raise ValueError("a front is of finite values only; leave points without a score out")
    sign = -1 if higher_is_better else 1
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1], i)):
        parameters, score = points[index]
        if (
            not front
            or sign * score < sign * points[front[-1]][1]
            or (parameters, score) == points[front[-1]]
        ):
            front.append(index)
    return front
