"""Intervals cover what they claim to: the spread over fresh samples of a known population is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from superlora_diffusion.evaluation import intervals
from superlora_diffusion.evaluation.fidelity import frechet_distance, kernel_distance, precision_recall
from superlora_diffusion.evaluation.intervals import (
    fid_interval,
    half_sample_error,
    kid_error,
    recall_interval,
    split_reach,
    wilson,
)

WIDTH = 6


def draw(count: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)


def width_of(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_the_half_sample_error_of_a_mean_is_its_standard_error():
    rows = draw(400, 0)
    error = half_sample_error(lambda half: float(half[:, 0].mean()), rows, repeats=400, seed=1)
    assert error == pytest.approx(float(rows[:, 0].std()) / 20, rel=0.1)


def test_fid_moves_as_much_as_its_interval_says():
    real = draw(400, 1)
    fresh = [frechet_distance(draw(400, seed, 1.4), real) for seed in range(100, 160)]
    found = [width_of(fid_interval(0.5, draw(400, seed, 1.4), real, 0)) / 2 for seed in range(5)]
    assert np.mean(found) == pytest.approx(1.96 * np.std(fresh), rel=0.35)


def test_fids_interval_is_about_the_score_and_not_about_a_biased_one():
    """Resampled sets score worse than the set itself (fewer distinct rows), which must not move the interval."""
    generated, real = draw(60, 2), draw(60, 3)
    fid = frechet_distance(generated, real)
    low, high = fid_interval(fid, generated, real, 0)
    assert low < fid < high and (low == 0 or fid - low == pytest.approx(high - fid))
    halves = intervals.frechet_to(real)
    assert halves(generated[:30]) > fid


def test_the_fast_distance_in_it_is_fid():
    generated, real = draw(50, 2, 2.0), draw(70, 3)
    assert intervals.frechet_to(real)(generated) == pytest.approx(frechet_distance(generated, real), rel=1e-6)


def test_kid_moves_as_much_as_its_error_says():
    samples = [kernel_distance(draw(200, s, 1.5), draw(200, s + 1000), 100, 0) for s in range(60)]
    errors = [kid_error(std, 100, 200) for _, std in samples]
    assert np.mean(errors) == pytest.approx(np.std([kid for kid, _ in samples]), rel=0.35)


def test_recall_moves_as_much_as_its_interval_says():
    real = draw(300, 1)
    fresh = [precision_recall(draw(300, seed, 0.6), real)[1] for seed in range(100, 140)]
    low, high = recall_interval(0.5, draw(300, 0, 0.6), real, 0)
    assert 0.5 * 1.96 * np.std(fresh) < (high - low) / 2 < 2 * 1.96 * np.std(fresh)


@pytest.mark.parametrize(("right", "count"), [(0, 10), (10, 10), (7, 10), (940, 1000), (1, 3)])
def test_wilsons_interval_is_scipys(right, count):
    expected = scipy.stats.binomtest(right, count).proportion_ci(0.95, "wilson")
    assert wilson(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_interval_over_splits_is_students():
    scores = np.array([8.1, 8.4, 7.9, 8.8, 8.2])
    expected = scipy.stats.t.interval(0.95, 4, scores.mean(), scipy.stats.sem(scores))
    assert split_reach(float(np.std(scores)), 5) == pytest.approx(expected[1] - scores.mean())
    assert split_reach(0.0, 1) is None


def test_what_would_take_too_long_has_no_interval():
    wide = torch.zeros(8, intervals.MAX_FID_FEATURES + 1)
    assert fid_interval(1.0, wide, wide, 0) is None
    many = torch.zeros(intervals.MAX_RECALL_ROWS + 1, 1)
    assert recall_interval(1.0, many, many, 0) is None


def test_intervals_follow_the_seed_alone():
    generated, real = draw(60, 2), draw(60, 3)
    torch.manual_seed(5)
    first = fid_interval(1.0, generated, real, 0)
    torch.manual_seed(6)
    assert fid_interval(1.0, generated, real, 0) == first != fid_interval(1.0, generated, real, 1)
