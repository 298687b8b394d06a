"""The Pareto front against its definition, pair by pair."""

import numpy as np
import pytest

from superlora_diffusion.evaluation.front import pareto_front


def front_by_definition(points, higher_is_better):
    def dominates(a, b):
        no_worse = a[1] >= b[1] if higher_is_better else a[1] <= b[1]
        return a[0] <= b[0] and no_worse and tuple(a) != tuple(b)

    return {i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)}


@pytest.mark.parametrize("higher_is_better", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_the_front_is_what_nothing_dominates(seed, higher_is_better):
    generator = np.random.default_rng(seed)
    count, side = (
        int(generator.integers(1, 40)),
        int(generator.integers(2, 12)),
    )  # few values: ties are common
    points = [tuple(map(float, pair)) for pair in generator.integers(0, side, (count, 2))]
    front = pareto_front(points, higher_is_better)
    assert set(front) == front_by_definition(points, higher_is_better) and len(set(front)) == len(front)
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_by_hand():
    points = [(100, 0.5), (10, 0.9), (100, 0.4), (1000, 0.4), (5000, 0.1)]
    assert pareto_front(points) == [1, 2, 4]
    assert pareto_front(points, higher_is_better=True) == [1]
    assert pareto_front([]) == []


def test_what_cannot_be_ordered_is_refused():
    with pytest.raises(ValueError, match="finite"):
        pareto_front([(1, 0.5), (2, float("nan"))])
