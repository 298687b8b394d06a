"""What the evaluation tests share: the shipped extractor and real digits at 16 pixels."""

from __future__ import annotations

import numpy as np
import pytest

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.data.preparation import prepare
from superlora_diffusion.evaluation.extractors import Extractor, load_extractor


@pytest.fixture(scope="session")
def extractor() -> Extractor:
    return load_extractor("digits")


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """mnist-mini's test images at 16 pixels, sorted by class: uint8 (2000, 16, 16, 3), labels (2000,)."""
    prepared = prepare(load_image_set(DataConfig(name="mnist-mini"), "test"), 16, 3, 10)
    order = np.argsort(prepared.labels, kind="stable")
    return prepared.images[order], prepared.labels[order]


@pytest.fixture(scope="session")
def halves(digits) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Two disjoint sets of 1,000 real digits, 100 of each class: one plays the generated images."""
    images, labels = digits
    return (images[::2], labels[::2]), (images[1::2], labels[1::2])
