"""All scores of one set of generated images against real ones, under one protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.extractors import Extractor
from superlora_diffusion.evaluation.fidelity import frechet_distance, inception_score
from superlora_diffusion.evaluation.subsample import choose_evenly

FEWEST_PER_SPLIT = 5  # images of each class in a split: below, its score is visibly too low


@dataclass(frozen=True)
class Scores:
    """What was measured and how; every number comes from the same images, extractor, N, splits and seed."""

    is_mean: float
    """Inception Score of the generated images, the mean over the splits; from 1 to the number of classes."""
    is_std: float
    """Its standard deviation over the splits (torch-fidelity's, which most papers print)."""
    is_stderr: float
    """Its standard error, is_std / sqrt(splits)."""
    is_real: float
    """Inception Score of the real images."""
    is_real_std: float
    is_distance: float
    """|is_mean - is_real|, the paper's axis; lower is better."""
    fid: float
    """Frechet distance of the features; lower is better. Comparable only at the same N and extractor."""
    accuracy: float | None
    """Share of generated images whose largest logit is the class asked for; None where no class was asked for
    or the extractor's classes are not the data's."""
    n: int
    """Images scored, generated and real alike."""
    splits: int
    shuffle: bool
    """Whether the images were shuffled (by `seed`) before they were cut into splits; always true."""
    seed: int
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
) -> Scores:
    """Inception Score of both sets, their distance, FID and accuracy.

    N is the smaller of the two numbers of images; the larger set is cut to N, class-proportional where it has
    labels, by ``seed`` alone, and a note says so. (Refusing would make small test sets useless; scoring with
    different N would compare different biases.)

    Args:
        generated: uint8 (N, H, W, 3).
        generated_labels: (N,) the classes asked for, or None for an unconditional model.
        real: uint8 (M, H', W', 3), usually the test split, prepared like the training data.
        real_labels: (M,), or None.

    Raises:
        EvaluationError: images or labels of another type or shape, fewer images than splits, fewer than two.
    """
    generated, generated_labels = _check_images(generated, generated_labels, "generated")
    real, real_labels = _check_images(real, real_labels, "real")
    n = min(len(generated), len(real))
    _check_counts(n, splits)
    notes = _notes(len(generated), len(real), n, splits, extractor)
    generated, generated_labels = _cut(generated, generated_labels, n, seed)
    real, _ = _cut(real, real_labels, n, seed)
    features, logits = extractor.features(_channels_first(generated), batch_size)
    real_features, real_logits = extractor.features(_channels_first(real), batch_size)
    is_mean, is_std = inception_score(logits, splits, seed)
    is_real, is_real_std = inception_score(real_logits, splits, seed)
    return Scores(
        is_mean=is_mean,
        is_std=is_std,
        is_stderr=is_std / math.sqrt(splits),
        is_real=is_real,
        is_real_std=is_real_std,
        is_distance=abs(is_mean - is_real),
        fid=frechet_distance(features, real_features),
        accuracy=_accuracy(logits, generated_labels, extractor),
        n=n,
        splits=splits,
        shuffle=True,
        seed=seed,
        extractor=extractor.name,
        extractor_hash=extractor.hash,
        notes=notes,
    )


def _check_images(
    images: np.ndarray, labels: np.ndarray | None, what: str
) -> tuple[np.ndarray, np.ndarray | None]:  # (N, H, W, 3), (N,)
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


def _check_counts(n: int, splits: int) -> None:
    """Before the extractor runs: what would fail after minutes fails at once."""
    if n < 2 or not 1 <= splits <= n:
        raise EvaluationError(
            f"{n} images in {splits} splits cannot be scored; expected at least two images and 1 to N "
            "splits. Generate more images (1,000 is a fair start), give more real ones, or lower splits."
        )


def _notes(generated: int, real: int, n: int, splits: int, extractor: Extractor) -> tuple[str, ...]:
    notes = []
    if generated > n:
        notes.append(
            f"only {n} of the {generated} generated images were scored, because there are {real} real ones"
        )
    if n <= extractor.num_features:
        notes.append(
            f"FID from {n} images and {extractor.num_features} features is far too high (the covariance is "
            f"singular); compare it only at the same N, or score more than {extractor.num_features} images"
        )
    least = FEWEST_PER_SPLIT * extractor.num_classes
    if extractor.predicts_labels and n // splits < least:
        notes.append(
            f"{n // splits} images in a split make its Inception Score too low; {least} or more are better "
            f"(N {least * splits} for {splits} splits)"
        )
    return tuple(notes)


def _cut(
    images: np.ndarray, labels: np.ndarray | None, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    chosen = choose_evenly(labels, len(images), n, seed)
    return images[chosen], None if labels is None else labels[chosen]


def _channels_first(images: np.ndarray) -> Tensor:  # (N, H, W, 3) -> (N, 3, H, W)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _accuracy(logits: Tensor, labels: np.ndarray | None, extractor: Extractor) -> float | None:
    if labels is None or not extractor.predicts_labels:
        return None
    if labels.max() >= extractor.num_classes:
        raise EvaluationError(
            f"a generated image's class is {labels.max()}, but the extractor {extractor.name!r} knows 0 to "
            f"{extractor.num_classes - 1}. Use the `inception` extractor for this data."
        )
    return float((logits.argmax(dim=1) == torch.from_numpy(labels)).double().mean())
