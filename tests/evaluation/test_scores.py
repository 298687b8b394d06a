"""`compute_scores` as a whole: what must move a score, what must not, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.fidelity import frechet_distance, inception_score
from superlora_diffusion.evaluation.scores import compute_scores
from superlora_diffusion.evaluation.subsample import choose_evenly

from .helpers import channels_first


def noisy(images: np.ndarray, strength: float) -> np.ndarray:
    """A share ``strength`` of uniform noise mixed in."""
    drawn = np.random.default_rng(1).integers(0, 256, images.shape)
    return np.rint((1 - strength) * images + strength * drawn).astype(np.uint8)


def test_real_digits_against_real_digits(extractor, halves):
    """The best any model could do: high score, hardly any distance, right classes."""
    (first, labels), (second, other_labels) = halves
    scores = compute_scores(first, labels, second, other_labels, extractor)
    assert 8.0 < scores.is_mean <= 10.0 and 8.0 < scores.is_real <= 10.0
    assert scores.is_distance == abs(scores.is_mean - scores.is_real) < 0.3
    assert scores.accuracy > 0.96
    assert scores.is_stderr == pytest.approx(scores.is_std / np.sqrt(10)) and scores.is_std > 0
    assert (scores.n, scores.splits, scores.shuffle, scores.seed) == (1000, 10, True, 0)
    assert (scores.extractor, scores.extractor_hash) == ("digits", extractor.hash)
    assert scores.notes == ()


def test_the_numbers_are_those_of_the_parts(extractor, halves):
    (first, labels), (second, other_labels) = halves
    second = 255 - second
    scores = compute_scores(first, labels, second, other_labels, extractor, splits=5, seed=9)
    features, logits = extractor.features(channels_first(first))
    real_features, real_logits = extractor.features(channels_first(second))
    assert (scores.is_mean, scores.is_std) == pytest.approx(inception_score(logits, 5, 9), rel=1e-6)
    assert (scores.is_real, scores.is_real_std) == pytest.approx(inception_score(real_logits, 5, 9), rel=1e-6)
    assert scores.fid == pytest.approx(frechet_distance(features, real_features), rel=1e-6)


def test_noise_raises_fid_and_lowers_is_step_by_step(extractor, halves):
    (first, labels), (second, other_labels) = halves
    rows = [
        compute_scores(noisy(first, level), labels, second, other_labels, extractor)
        for level in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    fids = [row.fid for row in rows]
    assert fids == sorted(fids) and fids[-1] > 20 * fids[0] and fids[1] > 1.5 * fids[0]
    assert rows[0].is_mean > rows[2].is_mean > rows[3].is_mean > rows[4].is_mean
    assert rows[-1].is_mean < 1.5
    assert rows[-1].is_distance == rows[-1].is_real - rows[-1].is_mean > 6  # a distance, so never below zero
    assert rows[-1].accuracy < 0.2


def test_shuffled_labels_leave_is_and_destroy_accuracy(extractor, halves):
    (first, labels), (second, other_labels) = halves
    right = compute_scores(first, labels, second, other_labels, extractor)
    shuffled = np.random.default_rng(0).permutation(labels)
    wrong = compute_scores(first, shuffled, second, other_labels, extractor)
    assert wrong.accuracy < 0.2 < 0.96 < right.accuracy
    assert dataclasses.replace(wrong, accuracy=right.accuracy) == right


def test_one_class_alone_scores_low(extractor, digits, halves):
    """Mode collapse: readable digits, all of one class."""
    images, labels = digits
    _, (second, other_labels) = halves
    only = np.flatnonzero(labels == 3)
    scores = compute_scores(images[only], labels[only], second, other_labels, extractor, splits=2)
    assert scores.is_mean < 1.5 < 7 < scores.is_real


def test_equal_pictures_score_one(extractor, halves):
    (first, labels), (second, other_labels) = halves
    scores = compute_scores(first[:1].repeat(200, axis=0), labels[:200], second, other_labels, extractor)
    assert scores.is_mean == pytest.approx(1.0, abs=1e-6) and scores.is_std < 1e-6


def test_batch_size_changes_nothing(extractor, halves):
    (first, labels), (second, other_labels) = halves
    small, large = (
        compute_scores(first[::5], labels[::5], second[::5], other_labels[::5], extractor, batch_size=size)
        for size in (33, 500)
    )
    for name in ("is_mean", "is_std", "is_real", "fid", "accuracy"):
        assert getattr(small, name) == pytest.approx(getattr(large, name), rel=1e-4), name


def test_the_same_call_gives_the_same_scores(extractor, digits, halves):
    (first, labels), _ = halves
    images, all_labels = digits
    calls = [
        compute_scores(first[::4], labels[::4], images, all_labels, extractor, seed=s) for s in (0, 0, 1)
    ]
    assert calls[0] == calls[1]
    assert calls[0].is_real != calls[2].is_real  # other real images, other splits


def test_more_real_images_are_cut_to_n(extractor, digits, halves):
    (first, labels), _ = halves
    images, all_labels = digits
    scores = compute_scores(first[::2], labels[::2], images, all_labels, extractor)
    assert scores.n == 500
    assert not any("only" in note for note in scores.notes)
    kept = choose_evenly(all_labels, 2000, 500, seed=0)
    assert scores == compute_scores(first[::2], labels[::2], images[kept], all_labels[kept], extractor)


def test_fewer_real_images_cut_the_generated_and_say_so(extractor, halves):
    (first, labels), (second, other_labels) = halves
    scores = compute_scores(first, labels, second[::2], other_labels[::2], extractor)
    assert scores.n == 500
    expected = "only 500 of the 1000 generated images were scored, because there are 500 real ones"
    assert expected in scores.notes
    kept = choose_evenly(labels, 1000, 500, seed=0)
    same = compute_scores(first[kept], labels[kept], second[::2], other_labels[::2], extractor)
    assert dataclasses.replace(scores, notes=same.notes) == same


def test_few_images_are_noted(extractor, halves):
    (first, labels), (second, other_labels) = halves
    notes = compute_scores(first[::20], labels[::20], second, other_labels, extractor).notes
    assert any(f"FID from 50 images and {extractor.num_features} features" in note for note in notes)
    assert any("5 images in a split" in note and "N 500 for 10 splits" in note for note in notes)


def test_no_labels_no_accuracy(extractor, halves):
    (first, labels), (second, _) = halves
    without = compute_scores(first, None, second, None, extractor)
    assert without.accuracy is None
    assert without.is_mean == compute_scores(first, labels, second, None, extractor).is_mean


def test_accuracy_needs_an_extractor_that_knows_the_classes(extractor, halves):
    (first, labels), (second, other_labels) = halves
    foreign = dataclasses.replace(extractor, predicts_labels=False)
    assert compute_scores(first, labels, second, other_labels, foreign).accuracy is None


@pytest.mark.parametrize("which", ["generated", "real"])
@pytest.mark.parametrize(
    "change",
    [
        lambda images: images / 255.0,
        lambda images: images[..., :1],
        lambda images: images[0],
        lambda images: images[:0],
    ],
    ids=["floats", "grey", "one picture", "none"],
)
def test_wrong_images_are_refused(extractor, halves, which, change):
    (first, labels), (second, other_labels) = halves
    images = {"generated": first, "real": second}
    images[which] = change(images[which])
    with pytest.raises(EvaluationError, match=rf"the {which} images are .*expected uint8 \(N, H, W, 3\)"):
        compute_scores(images["generated"], labels, images["real"], other_labels, extractor)


@pytest.mark.parametrize("which", ["generated", "real"])
@pytest.mark.parametrize(
    "change",
    [lambda labels: labels[:-1], lambda labels: labels * 1.0, lambda labels: labels - 1],
    ids=["one too few", "floats", "negative"],
)
def test_wrong_labels_are_refused(extractor, halves, which, change):
    (first, labels), (second, other_labels) = halves
    both = {"generated": labels, "real": other_labels}
    both[which] = change(both[which])
    with pytest.raises(EvaluationError, match=rf"the {which} images' labels are"):
        compute_scores(first, both["generated"], second, both["real"], extractor)


def test_classes_beyond_the_extractors_are_refused(extractor, halves):
    (first, labels), (second, other_labels) = halves
    with pytest.raises(EvaluationError, match=r"class is 12, but the extractor 'digits' knows 0 to 9"):
        compute_scores(first, labels + 3, second, other_labels, extractor)


@pytest.mark.parametrize(("count", "splits"), [(9, 10), (1, 1), (100, 0)])
def test_too_few_images_are_refused_before_the_extractor_runs(extractor, halves, count, splits):
    (first, labels), (second, other_labels) = halves
    unused = dataclasses.replace(extractor, network=None)
    with pytest.raises(EvaluationError, match=rf"{count} images in {splits} splits cannot be scored"):
        compute_scores(first[:count], labels[:count], second, other_labels, unused, splits=splits)
