"""The images that are scored: counts add up, classes keep their proportions, the seed alone decides."""

from __future__ import annotations

import numpy as np
import pytest

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.subsample import choose_evenly, class_counts

UNEVEN = np.repeat([0, 1, 2, 4], [70, 21, 8, 1])  # class 3 is empty


@pytest.mark.parametrize("count", [0, 1, 10, 33, 99, 100, 1000])
def test_counts_add_up_and_stay_within_one_of_the_share(count):
    counts = class_counts(UNEVEN, count)
    assert counts.sum() == count
    shares = count * np.bincount(UNEVEN) / len(UNEVEN)
    assert np.all(np.abs(counts - shares) < 1)


def test_known_counts():
    assert class_counts(UNEVEN, 10).tolist() == [7, 2, 1, 0, 0]
    assert class_counts(np.arange(10), 13).tolist() == [2, 2, 2, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("count", [1, 10, 57, 99])
def test_chosen_images_have_the_counts_and_no_repeats(count):
    shuffled = np.random.default_rng(0).permutation(UNEVEN)
    chosen = choose_evenly(shuffled, len(shuffled), count, seed=3)
    assert len(set(chosen.tolist())) == count and np.all(np.diff(chosen) > 0)
    assert np.bincount(shuffled[chosen], minlength=5).tolist() == class_counts(UNEVEN, count).tolist()


def test_the_seed_decides_and_nothing_else():
    np.random.seed(5)
    first = choose_evenly(UNEVEN, 100, 40, seed=0)
    np.random.seed(6)
    assert first.tolist() == choose_evenly(UNEVEN, 100, 40, seed=0).tolist()
    assert first.tolist() != choose_evenly(UNEVEN, 100, 40, seed=1).tolist()
    # Golden: the choice is part of what a score means.
    assert choose_evenly(np.repeat([0, 1], 10), 20, 6, seed=0).tolist() == [3, 6, 7, 10, 14, 19]


def test_all_are_kept_in_order_and_without_labels_any_may_be_chosen():
    assert choose_evenly(UNEVEN, 100, 100, seed=0).tolist() == list(range(100))
    chosen = choose_evenly(None, 50, 20, seed=0)
    assert len(set(chosen.tolist())) == 20 and chosen.max() < 50


def test_impossible_counts_are_refused():
    with pytest.raises(EvaluationError, match="101 of 100 images"):
        choose_evenly(UNEVEN, 100, 101, seed=0)
    with pytest.raises(EvaluationError, match="-1 images"):
        class_counts(UNEVEN, -1)
    with pytest.raises(EvaluationError, match="0 labels"):
        class_counts(np.array([], dtype=np.int64), 3)
