"""`compute_scores` as a whole: what must move a score, what must not, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.fidelity import (
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
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
    kid = kernel_distance(features, real_features, 500, 9)
    assert (scores.kid, scores.kid_std) == pytest.approx(kid, rel=1e-5) and scores.kid_subset_size == 500
    shares = precision_recall(features, real_features)
    assert (scores.precision, scores.recall) == pytest.approx(shares, abs=2e-3) and shares[0] != shares[1]


def test_noise_raises_fid_and_lowers_is_step_by_step(extractor, halves):
    (first, labels), (second, other_labels) = halves
    rows = [
        compute_scores(
            noisy(first, level), labels, second, other_labels, extractor, metrics=["is", "fid", "accuracy"]
        )
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
    first, labels, second, other_labels = first[::2], labels[::2], second[::2], other_labels[::2]
    right = compute_scores(first, labels, second, other_labels, extractor)
    shuffled = np.random.default_rng(0).permutation(labels)
    wrong = compute_scores(first, shuffled, second, other_labels, extractor)
    assert wrong.accuracy < 0.2 < 0.96 < right.accuracy
    same = {"accuracy": right.accuracy, "accuracy_interval": right.accuracy_interval}
    assert dataclasses.replace(wrong, **same) == right


def test_one_class_alone_scores_low(extractor, digits, halves):
    """Mode collapse: readable digits, all of one class."""
    images, labels = digits
    _, (second, other_labels) = halves
    only = np.flatnonzero(labels == 3)
    scores = compute_scores(images[only], labels[only], second, other_labels, extractor, splits=2)
    assert scores.is_mean < 1.5 < 7 < scores.is_real


def test_mode_collapse_lowers_recall_and_not_precision(extractor, digits):
    """Real digits of fewer and fewer classes: each as believable as before, covering less and less."""
    images, labels = digits
    first, second = images[::2], images[1::2]
    rows = []
    for classes in (10, 5, 1):
        kept = np.resize(np.flatnonzero(labels[::2] < classes), 1000)
        rows.append(compute_scores(first[kept], None, second, None, extractor, metrics=["prc"]))
    recalls = [row.recall for row in rows]
    assert recalls == sorted(recalls, reverse=True) and recalls[0] > 1.5 * recalls[1] > 3 * recalls[2]
    assert all(row.precision > rows[0].precision - 0.05 for row in rows)


def test_only_what_was_asked_for_is_measured(extractor, halves):
    (first, labels), (second, other_labels) = halves
    every = compute_scores(first[::5], labels[::5], second[::5], other_labels[::5], extractor)
    fields = {
        "is": "is_mean is_std is_stderr is_interval is_real is_real_std is_distance is_distance_interval",
        "fid": "fid fid_interval",
        "kid": "kid kid_std kid_subset_size kid_interval",
        "prc": "precision precision_interval recall recall_interval",
        "accuracy": "accuracy accuracy_interval",
    }
    for metric, names in fields.items():
        alone = compute_scores(
            first[::5], labels[::5], second[::5], other_labels[::5], extractor, metrics=[metric]
        )
        assert alone.metrics == (metric,)
        for name in " ".join(fields.values()).split():
            expected = getattr(every, name) if name in names.split() else None
            assert getattr(alone, name) == expected, (metric, name)
            assert getattr(every, name) is not None


def test_every_interval_holds_its_score(extractor, halves):
    (first, labels), (second, other_labels) = halves
    scores = compute_scores(noisy(first, 0.4), labels, second, other_labels, extractor)
    for name in ("is_mean", "is_distance", "fid", "kid", "precision", "recall", "accuracy"):
        low, high = getattr(scores, f"{name.removesuffix('_mean')}_interval")
        assert low < getattr(scores, name) < high, name


def test_what_an_extractor_cannot_say_is_left_out_and_said(extractor, halves):
    (first, labels), (second, other_labels) = halves
    other = dataclasses.replace(extractor, predicts_labels=False)
    scores = compute_scores(first, labels, second, other_labels, other, metrics=["fid", "accuracy"])
    assert scores.accuracy is None and scores.fid > 0
    assert any("not the data's: no accuracy" in note for note in scores.notes)
    with pytest.raises(EvaluationError, match=r"not the data's.*other metrics"):
        compute_scores(first, labels, second, other_labels, other, metrics=["accuracy"])
    three = compute_scores(first[:3], labels[:3], second, other_labels, extractor, splits=1)
    assert three.kid is None and three.precision is None and three.is_interval is None
    assert any("3 images are too few for KID" in note for note in three.notes)


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
    for name in ("is_mean", "is_std", "is_real", "fid", "kid", "precision", "recall", "accuracy"):
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
    for what in ("FID", "KID", "precision and recall"):
        assert any(f"{what} from 50 images and {extractor.num_features} features" in note for note in notes)
    assert len([note for note in notes if "192 features" in note]) == 3
    assert any("5 images in a split" in note and "N 500 for 10 splits" in note for note in notes)


def test_no_labels_no_accuracy(extractor, halves):
    (first, labels), (second, _) = halves
    without, given = (
        compute_scores(first, asked, second, None, extractor, metrics=["is", "accuracy"])
        for asked in (None, labels)
    )
    assert without.accuracy is None and given.accuracy is not None
    assert without.is_mean == given.is_mean
    assert without.notes == ("no classes were asked for: no accuracy",)


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
        compute_scores(first, labels + 3, second, other_labels, extractor, metrics=["accuracy"])


@pytest.mark.parametrize(("count", "splits"), [(9, 10), (1, 1), (100, 0)])
def test_too_few_images_are_refused_before_the_extractor_runs(extractor, halves, count, splits):
    (first, labels), (second, other_labels) = halves
    unused = dataclasses.replace(extractor, network=None)
    with pytest.raises(EvaluationError, match=rf"{count} images in {splits} splits cannot be scored"):
        compute_scores(first[:count], labels[:count], second, other_labels, unused, splits=splits)
