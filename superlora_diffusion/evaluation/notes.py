"""What weakens a set of scores, and what could not be measured, in words."""

from __future__ import annotations

from collections.abc import Sequence

from superlora_diffusion.evaluation.extractors import Extractor
from superlora_diffusion.evaluation.fidelity import NEIGHBOURS
from superlora_diffusion.runs.config import Metric

FEWEST_PER_SPLIT = 5  # images of each class in a split: below, its score is visibly too low
FEWEST_FOR_KID = 4  # two subsets of two


def missing_notes(
    metrics: Sequence[Metric], n: int, labelled: bool, extractor: Extractor
) -> dict[Metric, str]:
    """For each metric that cannot be measured, why."""
    found: dict[Metric, str] = {}
    if not extractor.num_classes:
        found["is"] = f"the extractor {extractor.name} has no classes, so there is no Inception Score"
    if n < FEWEST_FOR_KID:
        found["kid"] = f"{n} images are too few for KID"
    if n <= NEIGHBOURS:
        found["prc"] = f"{n} images are too few for precision and recall"
    if not extractor.num_classes:
        found["accuracy"] = f"the extractor {extractor.name} has no classes, so there is no accuracy"
    elif not extractor.predicts_labels:
        found["accuracy"] = f"the classes of the extractor {extractor.name} are not the data's: no accuracy"
    elif not labelled:
        found["accuracy"] = "no classes were asked for: no accuracy"
    return {metric: text for metric, text in found.items() if metric in metrics}


def weakness_notes(
    metrics: Sequence[Metric], generated: int, real: int, n: int, splits: int, extractor: Extractor
) -> tuple[str, ...]:
    """What makes these numbers less than they seem."""
    notes = []
    if generated > n:
        notes.append(
            f"only {n} of the {generated} generated images were scored, because there are {real} real ones"
        )
    if n <= extractor.num_features:
        notes += _few_for_features(metrics, n, extractor.num_features)
    least = FEWEST_PER_SPLIT * extractor.num_classes
    if "is" in metrics and extractor.predicts_labels and n // splits < least:
        notes.append(
            f"{n // splits} images in a split make its Inception Score too low; {least} or more are better "
            f"(N {least * splits} for {splits} splits)"
        )
    return tuple(notes)


def _few_for_features(metrics: Sequence[Metric], n: int, width: int) -> list[str]:
    notes = []
    if "fid" in metrics:
        notes.append(
            f"FID from {n} images and {width} features is far too high (the covariance is "
            f"singular); compare it only at the same N, or score more than {width} images"
        )
    if "kid" in metrics:
        notes.append(
            f"KID from {n} images and {width} features is right on average but scatters widely; go by its "
            f"interval, or score more than {width} images"
        )
    if "prc" in metrics:
        notes.append(
            f"precision and recall from {n} images and {width} features are too high (so few images lie far "
            f"apart and reach far); compare them only at the same N, or score more than {width} images"
        )
    return notes
