"""The sets that need no download: `mnist-mini`, shipped here, and `digits`, shipped in scikit-learn."""

from __future__ import annotations

from importlib import resources

import numpy as np

from superlora_diffusion.data.holdout import held_out
from superlora_diffusion.data.records import SPLITS, ImageSet, Split, make_image_set

DIGITS = tuple("0123456789")


def load_mnist_mini(split: Split) -> ImageSet:
    """5,000 or 2,000 real MNIST images, balanced, (28, 28, 1); ``assets/NOTICE`` has the licence."""
    asset = resources.files("superlora_diffusion.data") / "assets" / "mnist_mini.npz"
    with asset.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        chosen = stored["split"] == SPLITS.index(split)
        images, labels = stored["images"][chosen], stored["labels"][chosen]
    return make_image_set(images, labels, DIGITS, name="mnist-mini", split=split, source=str(asset))


def load_digits(split: Split) -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, (8, 8, 1), a fifth of each class the test split."""
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # stored as 0..16
    chosen = held_out(bunch.target) == (split == "test")
    return make_image_set(
        images[chosen],
        bunch.target[chosen],
        DIGITS,
        name="digits",
        split=split,
        source="scikit-learn's load_digits",
        preparation={"values": "0..16 scaled to 0..255"},
    )
