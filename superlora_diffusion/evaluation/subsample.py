"""Which images are scored when there are more than needed: by seed, in the classes' proportions."""

from __future__ import annotations

import numpy as np

from superlora_diffusion.errors import EvaluationError


def class_counts(labels: np.ndarray, count: int) -> np.ndarray:
    """How many of ``count`` images each class gets, in the proportions of ``labels`` (N,): (classes,).

    Largest remainders, ties to the lower class; the counts add up to ``count`` exactly. This is also what the
    labels of generated images should be drawn by: `np.repeat(np.arange(len(counts)), counts)`.

    Raises:
        EvaluationError: no labels, or a negative count.
    """
    if not len(labels) or count < 0:
        raise EvaluationError(
            f"{count} images in the proportions of {len(labels)} labels were asked for; expected at least "
            "one label and a count of 0 or more."
        )
    # In whole numbers: count * share rounded as floats could give a class more than it has.
    products = count * np.bincount(np.asarray(labels, dtype=np.int64)).astype(np.int64)
    counts, remainders = np.divmod(products, len(labels))
    lacking = count - int(counts.sum())
    counts[np.argsort(-remainders, kind="stable")[:lacking]] += 1
    return counts


def choose_evenly(labels: np.ndarray | None, total: int, count: int, seed: int) -> np.ndarray:
    """Indices, ascending, of ``count`` of ``total`` images, class-proportional if there are labels (total,).

    Each class's members are taken by a permutation of its own stream, NumPy's frozen `RandomState`, seeded by
    (seed, class): the choice within a class does not depend on the other classes.

    Raises:
        EvaluationError: more wanted than there are.
    """
    if count > total:
        raise EvaluationError(
            f"{count} of {total} images were asked for; expected at most {total}. Ask for fewer."
        )
    if count == total:
        return np.arange(total)
    labels = np.zeros(total, dtype=np.int64) if labels is None else np.asarray(labels)
    chosen = []
    for label, wanted in enumerate(class_counts(labels, count)):
        members = np.flatnonzero(labels == label)
        order = np.random.RandomState([seed % 2**32, label]).permutation(len(members))
        chosen.append(members[order[:wanted]])
    return np.sort(np.concatenate(chosen))
