"""Splitting what comes without a test split: the same way on every machine, and in every class."""

from __future__ import annotations

import numpy as np

TEST_EVERY = 5
SPLIT_SEED = 20240311  # fixed for ever: it is what makes a split the same everywhere


def held_out(labels: np.ndarray) -> np.ndarray:  # (N,) int -> (N,) bool
    """Which images are the test split: every fifth of each class, in an order shuffled by a fixed seed.

    Shuffled, because neighbours in a file are often alike (one writer, one film).
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(
        len(labels)
    )  # RandomState's stream is frozen by numpy
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        chosen[order[labels[order] == label][::TEST_EVERY]] = True
    return chosen
