"""Images of a data set as a base expects them: of its size, in its channels, with its classes."""

from __future__ import annotations

from torch import Tensor

from ..data.buckets import load_buckets
from ..data.config import DataConfig
from ..data.loading import load_image_set
from ..data.preparation import prepare
from ..data.records import ImageSet, Split
from .base import Base
from .classifier import Classifier


def load_for(base: Base, data: DataConfig, split: Split, channels: int) -> list[ImageSet]:
    """One split, a set a shape: squares, or with ``data.buckets`` several shapes.

    A base on latents reads pictures at ``data.resolution``, one on pixels at its own size. Labels become the base's
    classes; where it takes text they stay what they are.

    Args:
        base: what they are for.
        data: which images.
        split: train or test.
        channels: 1 or 3.

    Raises:
        ConfigError, DataError: as reading and preparing would.
    """
    size = base.size
    if base.family.is_latent:
        size = data.resolution or size
        # A class map belongs to bases that have classes; preparing applies it.
        read = data if base.takes_text else data.model_copy(update={"class_map": None})
        sets = load_buckets(read, split, size, channels, base.family.multiple(base))
        if base.takes_text:
            return sets
    else:
        sets = [load_image_set(data, split)]
    names = base.class_names or None
    return [
        prepare(part, size, channels, base.classes, data.class_map, base_class_names=names) for part in sets
    ]


def load_for_classifier(classifier: Classifier, data: DataConfig, split: Split) -> ImageSet:
    """One split as a classifier takes it: squares of at most its size, with its classes.

    Smaller images stay as small as they are, since they are enlarged batch by batch: a set of 32 px at 224 px would
    take 49 times its memory.

    Raises:
        ConfigError, DataError: as reading and preparing would.
    """
    images = load_image_set(data, split)
    size, names = min(classifier.size, max(images.images.shape[1:3])), classifier.class_names
    return prepare(images, size, classifier.channels, len(names), data.class_map, base_class_names=names)


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 to float in [-1, 1]."""
    return images.float() / 127.5 - 1
