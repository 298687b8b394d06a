"""All scores of one set of generated images against real ones, under one protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation import intervals
from superlora_diffusion.evaluation.extractors import Extractor
from superlora_diffusion.evaluation.features import Features, stream_features
from superlora_diffusion.evaluation.fidelity import (
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from superlora_diffusion.evaluation.intervals import Interval
from superlora_diffusion.evaluation.notes import missing_notes, weakness_notes
from superlora_diffusion.evaluation.subsample import choose_evenly
from superlora_diffusion.runs.config import METRICS, Metric

KID_SUBSET_SIZE = 1000  # as most papers have it; of fewer images, half


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What was measured and how; every number comes from the same images, extractor, N, splits and seed.

    A score that was not asked for, or that these images or this extractor cannot give, is None (``notes`` says
    which cannot). Intervals are of 95 %; `evaluation.intervals` says how they come about.
    """

    is_mean: float | None = None
    """Inception Score of the generated images, the mean over the splits; from 1 to the number of classes."""
    is_std: float | None = None
    """Its standard deviation over the splits (torch-fidelity's, which most papers print)."""
    is_stderr: float | None = None
    """Its standard error, is_std / sqrt(splits)."""
    is_interval: Interval | None = None
    """t-interval of is_mean over the splits."""
    is_real: float | None = None
    """Inception Score of the real images."""
    is_real_std: float | None = None
    is_distance: float | None = None
    """|is_mean - is_real|, the paper's axis; lower is better."""
    is_distance_interval: Interval | None = None
    """From the splits of both sets: the two errors added in squares."""
    fid: float | None = None
    """Frechet distance of the features; lower is better. Comparable only at the same N and extractor."""
    fid_interval: Interval | None = None
    """Over the generated images, delete-half jackknife; None where the features are very wide."""
    kid: float | None = None
    """Kernel distance, the mean over subsets; lower is better, slightly below zero for equal sets."""
    kid_std: float | None = None
    """Its standard deviation over the subsets, which papers print; not the error of the mean."""
    kid_subset_size: int | None = None
    """Images in a subset: 1,000, or half of N where that is less (a whole set has no other subset)."""
    kid_interval: Interval | None = None
    """Over both sets, delete-d jackknife from kid_std."""
    precision: float | None = None
    """Share of generated images within reach of real ones: fidelity. Higher is better."""
    precision_interval: Interval | None = None
    """Wilson's, the real images held fixed."""
    recall: float | None = None
    """Share of real images within reach of generated ones: coverage. Higher is better."""
    recall_interval: Interval | None = None
    """Over the generated images, delete-half jackknife; None above 10,000 of them."""
    accuracy: float | None = None
    """Share of generated images whose largest logit is the class asked for; None where no class was asked for
    or the extractor's classes are not the data's."""
    accuracy_interval: Interval | None = None
    """Wilson's."""
    metrics: tuple[Metric, ...] = METRICS
    """What was asked for."""
    n: int
    """Images scored, generated and real alike."""
    splits: int
    shuffle: bool = True
    """Whether the images were shuffled (by `seed`) before they were cut into splits; always true."""
    seed: int
    """Decides the shuffle, the subsets of KID, the halves of the intervals and which images are cut."""
    extractor: str
    extractor_hash: str
    notes: tuple[str, ...] = ()
    """What weakens these numbers, in words."""


def compute_scores(
    generated: np.ndarray,
    generated_labels: np.ndarray | None,
    real: np.ndarray,
    real_labels: np.ndarray | None,
    extractor: Extractor,
    splits: int = 10,
    seed: int = 0,
    batch_size: int = 256,
    metrics: Sequence[Metric] = METRICS,
) -> Scores:
    """:func:`score_features` of two arrays of images.

    Args:
        generated: uint8 (N, H, W, 3).
        generated_labels: (N,) the classes asked for, or None for an unconditional model.
        real: uint8 (M, H', W', 3), usually the test split, prepared like the training data.
        real_labels: (M,), or None.

    Raises:
        EvaluationError: images or labels of another type or shape, fewer images than splits, fewer than two.
    """
    generated, generated_labels = check_images(generated, generated_labels, "generated")
    real, real_labels = check_images(real, real_labels, "real")
    n = check_counts(len(generated), len(real), splits)
    chosen = choose_evenly(real_labels, len(real), n, seed)
    if real_labels is not None:
        real_labels = real_labels[chosen]
    drawn = stream_features([generated], generated_labels, extractor, batch_size)
    reference = stream_features([real[chosen]], real_labels, extractor, batch_size)
    return score_features(drawn, reference, extractor, splits, seed, metrics)


def score_features(
    generated: Features,
    real: Features,
    extractor: Extractor,
    splits: int = 10,
    seed: int = 0,
    metrics: Sequence[Metric] = METRICS,
) -> Scores:
    """The scores in ``metrics`` of generated against real images, from their rows alone.

    N is the smaller of the two numbers of images; the larger set is cut to N, class-proportional where it has
    labels, by ``seed`` alone, and a note says so. (Refusing would make small test sets useless; scoring with
    different N would compare different biases.)

    Raises:
        EvaluationError: fewer images than splits, fewer than two, nothing in ``metrics`` that can be measured.
    """
    n = check_counts(len(generated), len(real), splits)
    labelled = generated.labels is not None
    missing = missing_notes(metrics, n, labelled, extractor)
    measured = [metric for metric in metrics if metric not in missing]
    if not measured:
        raise EvaluationError("; ".join(missing.values()) + ". Ask for other metrics or another extractor.")
    notes = weakness_notes(measured, len(generated), len(real), n, splits, extractor)
    generated, real = (
        rows.take(choose_evenly(rows.labels, len(rows), n, seed)) for rows in (generated, real)
    )
    fields: dict[str, Any] = {}
    for metric in measured:
        fields |= _MEASURES[metric](generated, real, extractor, splits, seed)
    return Scores(
        **fields,
        metrics=tuple(metrics),
        n=n,
        splits=splits,
        seed=seed,
        extractor=extractor.name,
        extractor_hash=extractor.hash,
        notes=(*notes, *missing.values()),
    )


def check_images(
    images: np.ndarray, labels: np.ndarray | None, what: str
) -> tuple[np.ndarray, np.ndarray | None]:  # (N, H, W, 3), (N,)
    """The arrays as the scores want them, or an EvaluationError that names ``what``."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise EvaluationError(
            f"the {what} images are {images.dtype} of shape {images.shape}; expected uint8 (N, H, W, 3), at "
            "least one. Repeat grey images to three channels and scale floats to 0..255 first."
        )
    if labels is None:
        return images, None
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise EvaluationError(
            f"the {what} images' labels are {labels.dtype} of shape {labels.shape}; expected whole numbers "
            f"from 0 up, one for each of the {len(images)} images."
        )
    return images, labels.astype(np.int64)


def check_counts(generated: int, real: int, splits: int) -> int:
    """N of that many images; called before the extractor runs, so that what would fail late fails at once."""
    n = min(generated, real)
    if n < 2 or not 1 <= splits <= n:
        raise EvaluationError(
            f"{n} images in {splits} splits cannot be scored; expected at least two images and 1 to N "
            "splits. Generate more images (1,000 is a fair start), give more real ones, or lower splits."
        )
    return n


# --- one function a metric: the fields of Scores it fills -------------------------------------------------


def _inception(
    generated: Features, real: Features, extractor: Extractor, splits: int, seed: int
) -> dict[str, Any]:
    mean, std = inception_score(generated.logits, splits, seed)
    is_real, real_std = inception_score(real.logits, splits, seed)
    found: dict[str, Any] = {
        "is_mean": mean,
        "is_std": std,
        "is_stderr": std / math.sqrt(splits),
        "is_real": is_real,
        "is_real_std": real_std,
        "is_distance": abs(mean - is_real),
    }
    reach, real_reach = (intervals.split_reach(deviation, splits) for deviation in (std, real_std))
    if reach is not None and real_reach is not None:
        both, distance = math.hypot(reach, real_reach), abs(mean - is_real)
        found["is_interval"] = (max(1.0, mean - reach), mean + reach)
        found["is_distance_interval"] = (max(0.0, distance - both), distance + both)
    return found


def _frechet(
    generated: Features, real: Features, extractor: Extractor, splits: int, seed: int
) -> dict[str, Any]:
    fid = frechet_distance(generated.features, real.features)
    interval = intervals.fid_interval(fid, generated.features, real.features, seed)
    return {"fid": fid, "fid_interval": interval}


def _kernel(
    generated: Features, real: Features, extractor: Extractor, splits: int, seed: int
) -> dict[str, Any]:
    size = min(KID_SUBSET_SIZE, len(generated) // 2)
    kid, std = kernel_distance(generated.features, real.features, size, seed)
    return {
        "kid": kid,
        "kid_std": std,
        "kid_subset_size": size,
        "kid_interval": intervals.around(kid, intervals.kid_error(std, size, len(generated))),
    }


def _neighbourhoods(
    generated: Features, real: Features, extractor: Extractor, splits: int, seed: int
) -> dict[str, Any]:
    precision, recall = precision_recall(generated.features, real.features)
    return {
        "precision": precision,
        "precision_interval": intervals.wilson(precision, len(generated)),
        "recall": recall,
        "recall_interval": intervals.recall_interval(recall, generated.features, real.features, seed),
    }


def _accuracy(
    generated: Features, real: Features, extractor: Extractor, splits: int, seed: int
) -> dict[str, Any]:
    labels = generated.labels
    if labels.max() >= extractor.num_classes:
        raise EvaluationError(
            f"a generated image's class is {labels.max()}, but the extractor {extractor.name!r} knows 0 to "
            f"{extractor.num_classes - 1}. Use the `inception` extractor for this data."
        )
    share = float((generated.logits.argmax(dim=1) == torch.from_numpy(labels)).double().mean())
    return {"accuracy": share, "accuracy_interval": intervals.wilson(share, len(labels))}


_MEASURES = {
    "is": _inception,
    "fid": _frechet,
    "kid": _kernel,
    "prc": _neighbourhoods,
    "accuracy": _accuracy,
}
