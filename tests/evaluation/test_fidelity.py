"""IS and FID against implementations written here from the papers, and torch-fidelity's traps."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import torch
import torch_fidelity

from superlora_diffusion.errors import ConfigError, EvaluationError
from superlora_diffusion.evaluation.fidelity import (
    DIGITS_EXTRACTOR,
    TensorRows,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
    run_metrics,
)

from .helpers import channels_first


def slow_inception_score(logits: np.ndarray, splits: int, seed: int) -> tuple[float, float]:
    """Image by image: exp of the mean divergence of p(y|x) from the split's mean, over shuffled splits."""
    order = np.random.RandomState(seed).permutation(len(logits))
    scores = []
    for number in range(splits):
        members = order[number * len(logits) // splits : (number + 1) * len(logits) // splits]
        rows = [scipy.special.softmax(logits[index].astype(np.float64)) for index in members]
        marginal = sum(rows) / len(rows)
        scores.append(np.exp(np.mean([scipy.special.rel_entr(row, marginal).sum() for row in rows])))
    return float(np.mean(scores)), float(np.sqrt(np.mean((np.array(scores) - np.mean(scores)) ** 2)))


def slow_frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """By the symmetric form tr sqrt(S1^(1/2) S2 S1^(1/2)), square roots by eigenvectors."""

    def root(matrix: np.ndarray) -> np.ndarray:
        values, vectors = scipy.linalg.eigh(matrix)
        return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T

    def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centred = rows.astype(np.float64) - rows.astype(np.float64).mean(axis=0)
        return rows.astype(np.float64).mean(axis=0), centred.T @ centred / (len(rows) - 1)

    (mean_1, cov_1), (mean_2, cov_2) = moments(first), moments(second)
    cross = np.trace(root(root(cov_1) @ cov_2 @ root(cov_1)))
    return float(((mean_1 - mean_2) ** 2).sum() + np.trace(cov_1) + np.trace(cov_2) - 2 * cross)


def slow_kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Binkowski et al. 2018, equation 4, pair by pair: the unbiased squared MMD with (x.y / D + 1)^3."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / len(x) + 1) ** 3

    def mean_of_pairs(rows: np.ndarray) -> float:
        places = range(len(rows))
        return float(np.mean([kernel(rows[i], rows[j]) for i in places for j in places if i != j]))

    between = np.mean([kernel(x, y) for x in first for y in second])
    return mean_of_pairs(first) + mean_of_pairs(second) - 2 * float(between)


def slow_share_within_reach(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    """Kynkaanniemi et al. 2019, equations 1 and 2: points inside a ball about any centre, which reaches the
    centre's k-th nearest neighbour.
    """

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.sqrt(((x - y) ** 2).sum()))

    reach = [
        sorted(distance(x, y) for j, y in enumerate(centres) if j != i)[k - 1] for i, x in enumerate(centres)
    ]
    inside = [any(distance(p, c) <= r for c, r in zip(centres, reach, strict=True)) for p in points]
    return float(np.mean(inside))


def random_rows(count: int, width: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    """Correlated normal rows, fp32 (count, width), away from zero."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return spread * torch.randn(count, width, generator=generator) @ mix + 3 * torch.rand(
        width, generator=generator
    )


@pytest.mark.parametrize(
    ("count", "classes", "splits", "seed"), [(137, 10, 10, 0), (50, 7, 3, 5), (20, 1008, 1, 2)]
)
def test_inception_score_equals_the_slow_one(count, classes, splits, seed):
    logits = random_rows(count, classes, seed=11)
    expected_mean, expected_std = slow_inception_score(logits.numpy(), splits, seed)
    mean, std = inception_score(logits, splits, seed)
    assert expected_mean > 1.5
    assert mean == pytest.approx(expected_mean, rel=1e-6)
    assert std == pytest.approx(expected_std, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize(("count", "other", "width"), [(200, 300, 24), (500, 500, 96), (64, 80, 5)])
def test_fid_equals_the_slow_one(count, other, width):
    first, second = random_rows(count, width, seed=1), random_rows(other, width, seed=2, spread=1.7)
    expected = slow_frechet_distance(first.numpy(), second.numpy())
    assert expected > 1.0
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("count", "other", "width"), [(40, 40, 24), (33, 33, 3)])
def test_kid_equals_the_slow_one(count, other, width):
    first, second = random_rows(count, width, seed=1), random_rows(other, width, seed=2)
    expected = slow_kernel_distance(first.double().numpy(), second.double().numpy())
    mean, std = kernel_distance(first, second, subset_size=count, seed=0, subsets=2)
    assert expected > 1.0 and mean == pytest.approx(expected, rel=1e-9)
    assert std == pytest.approx(0, abs=1e-9 * mean)  # a whole set has no other subset


def test_kid_is_the_mean_over_seeded_subsets():
    first, second = random_rows(30, 5, seed=1).double(), random_rows(50, 5, seed=2).double()
    generator = np.random.RandomState(3)
    drawn = [
        (generator.choice(30, 12, replace=False), generator.choice(50, 12, replace=False)) for _ in range(4)
    ]
    slow = [slow_kernel_distance(first.numpy()[a], second.numpy()[b]) for a, b in drawn]
    assert kernel_distance(first, second, 12, seed=3, subsets=4) == pytest.approx(
        (np.mean(slow), np.std(slow))
    )
    assert np.std(slow) > 0.01 * np.mean(slow)


def test_kid_of_two_samples_of_one_distribution_is_zero_on_average():
    found = []
    for seed in range(200):
        rows = torch.randn(80, 4, generator=torch.Generator().manual_seed(seed))
        found.append(kernel_distance(rows[:40], rows[40:], 40, 0, 1)[0])
    assert min(found) < 0 < max(found)  # unbiased, so not clipped
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


@pytest.mark.parametrize(("count", "other", "width", "k"), [(60, 60, 2, 3), (40, 55, 6, 3), (31, 30, 2, 1)])
def test_precision_and_recall_equal_the_slow_ones(count, other, width, k):
    shift = torch.randn(width, generator=torch.Generator().manual_seed(1))
    generated, real = random_rows(count, width, seed=4), random_rows(other, width, seed=4, spread=0.8) + shift
    expected = (
        slow_share_within_reach(generated.double().numpy(), real.double().numpy(), k),
        slow_share_within_reach(real.double().numpy(), generated.double().numpy(), k),
    )
    assert precision_recall(generated, real, k) == pytest.approx(expected, abs=1e-6)
    assert expected[0] != expected[1] and min(expected) < 0.95 and all(share > 0.05 for share in expected)


def test_precision_and_recall_in_parts_are_the_same(monkeypatch):
    generated, real = random_rows(90, 4, seed=4), random_rows(70, 4, seed=4, spread=1.5)
    whole = precision_recall(generated, real)
    monkeypatch.setattr("superlora_diffusion.evaluation.fidelity._PRC_ENTRIES", 90 * 13)
    assert precision_recall(generated, real) == whole


def test_order_changes_neither_precision_nor_recall_nor_a_whole_kid():
    generated, real = random_rows(50, 4, seed=4), random_rows(50, 4, seed=4, spread=1.5)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    assert precision_recall(generated[order], real) == precision_recall(generated, real)
    assert kernel_distance(generated[order], real, 50, 0, 1)[0] == pytest.approx(
        kernel_distance(generated, real, 50, 0, 1)[0], rel=1e-9
    )


def test_both_equal_the_slow_ones_on_real_digits(extractor, halves):
    (first, _), (second, _) = halves
    features, logits = extractor.features(channels_first(first))
    inverted_features, _ = extractor.features(channels_first(255 - second))
    assert inception_score(logits, 10, 3)[0] == pytest.approx(
        slow_inception_score(logits.numpy(), 10, 3)[0], rel=1e-4
    )
    expected = slow_frechet_distance(features.numpy(), inverted_features.numpy())
    assert frechet_distance(features, inverted_features) == pytest.approx(expected, rel=1e-4)


def test_fid_keeps_double_precision_far_from_the_origin():
    # In fp32 the means of these would be off by about 1e-3, more than the distance itself.
    first = random_rows(400, 8, seed=3).double() + 20_000
    assert frechet_distance(first, first + 1e-2) == pytest.approx(8e-4, rel=1e-3)


def test_torch_fidelity_on_pictures_gives_the_same(extractor, halves):
    """The registered extractor, called the ordinary way, agrees with features handed over as rows."""
    (first, _), (second, _) = halves
    scores = torch_fidelity.calculate_metrics(
        input1=TensorRows(channels_first(first)),
        input2=TensorRows(channels_first(second)),
        feature_extractor=DIGITS_EXTRACTOR,
        isc=True,
        fid=True,
        rng_seed=4,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    features, logits = extractor.features(channels_first(first))
    other_features, _ = extractor.features(channels_first(second))
    mean, std = inception_score(logits, 10, 4)
    assert scores["inception_score_mean"] == pytest.approx(mean, rel=1e-4)
    assert scores["inception_score_std"] == pytest.approx(std, rel=1e-3)
    # Its means are in fp32, hence the wider bound.
    assert scores["frechet_inception_distance"] == pytest.approx(
        frechet_distance(features, other_features), rel=1e-2
    )


@pytest.mark.parametrize("splits", [1, 4])
def test_inception_score_reaches_its_bounds(splits):
    """1 for equal images, the number of classes for certain and evenly spread ones."""
    assert inception_score(torch.tensor([[0.3, -1.0, 2.0]]).repeat(40, 1), splits, 0)[0] == pytest.approx(1.0)
    certain = 60 * torch.eye(4).repeat(200, 1)
    mean, _ = inception_score(certain, 1, 0)
    assert mean == pytest.approx(4.0, rel=1e-6)


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_inception_score_stays_within_its_bounds(spread):
    means = [inception_score(spread * random_rows(60, 10, seed=seed), 3, 0)[0] for seed in range(8)]
    assert all(1.0 <= mean <= 10.0 for mean in means) and len(set(means)) == 8


def test_order_matters_only_across_splits():
    logits = random_rows(120, 10, seed=6)
    backwards = logits.flip(0)
    assert inception_score(logits, 1, 0)[0] == pytest.approx(inception_score(backwards, 1, 0)[0], rel=1e-9)
    assert inception_score(logits, 6, 0) == inception_score(logits, 6, 0)
    assert inception_score(logits, 6, 0)[0] != pytest.approx(inception_score(backwards, 6, 0)[0], rel=1e-9)
    assert inception_score(logits, 6, 0)[0] != pytest.approx(inception_score(logits, 6, 1)[0], rel=1e-9)


def test_class_sorted_rows_are_shuffled_before_they_are_split():
    """Unshuffled, each split of class-sorted samples holds one class and scores 1."""
    logits = 20 * torch.eye(10).repeat_interleave(50, dim=0)
    assert inception_score(logits, 10, 0)[0] > 8.0


def test_fid_of_equal_sets_is_zero_and_symmetric():
    first, second = random_rows(100, 12, seed=7), random_rows(100, 12, seed=8)
    assert 0.0 <= frechet_distance(first, first) < 1e-6
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), rel=1e-8)
    assert frechet_distance(first, first[torch.randperm(100)]) < 1e-6


@pytest.mark.parametrize("splits", [0, -1, 11])
def test_more_splits_than_images_are_refused(splits):
    with pytest.raises(EvaluationError, match=r"10 images in -?\d+ splits.*fewer splits"):
        inception_score(random_rows(10, 3, seed=0), splits, 0)


def test_broken_rows_are_refused():
    rows = random_rows(10, 3, seed=0)
    broken = rows.clone()
    broken[4, 1] = float("nan")
    with pytest.raises(EvaluationError, match="logits of 1 of 10 images are not finite"):
        inception_score(broken, 2, 0)
    with pytest.raises(EvaluationError, match="features of 1 of 10 images are not finite"):
        frechet_distance(rows, broken)
    with pytest.raises(EvaluationError, match=r"same number of columns"):
        frechet_distance(rows, rows[:, :2])
    with pytest.raises(EvaluationError, match=r"at least two rows"):
        frechet_distance(rows, rows[:1])
    with pytest.raises(EvaluationError, match=r"shape \(0, 3\)"):
        inception_score(rows[:0], 1, 0)
    with pytest.raises(EvaluationError, match="features of 1 of 10 images are not finite"):
        kernel_distance(broken, rows, 5, 0)
    with pytest.raises(EvaluationError, match=r"KID got .*at least 11 rows"):
        kernel_distance(rows, rows, 11, 0)
    with pytest.raises(EvaluationError, match=r"precision and recall got .*at least 4 rows"):
        precision_recall(rows, rows[:3])


def test_options_torch_fidelity_would_ignore_are_refused():
    with pytest.raises(ConfigError, match=r"no option 'isc_split'.*Did you mean 'isc_splits'"):
        run_metrics(isc=True, isc_split=3)
    with pytest.raises(ConfigError, match="'cache' is fixed at False"):
        run_metrics(isc=True, cache=True)


def test_nothing_is_cached_or_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    inception_score(random_rows(30, 5, seed=0), 3, 0)
    frechet_distance(random_rows(30, 5, seed=0), random_rows(30, 5, seed=1))
    assert list(tmp_path.rglob("*")) == []
    assert capfd.readouterr() == ("", "")
