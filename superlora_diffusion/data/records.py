"""The one record every data set becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from superlora_diffusion.errors import DataError

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
ANONYMOUS_CLASS = "image"
"""The one class of a folder that has no class folders."""


@dataclass(frozen=True)
class ImageSet:
    """One split of a data set. Made by :func:`make_image_set`, which checks it."""

    images: np.ndarray
    """uint8, (N, H, W, C), C = 1 (grey) or 3 (RGB)."""
    labels: np.ndarray
    """int64, (N,), each in [0, len(class_names))."""
    class_names: tuple[str, ...]
    name: str
    split: str
    content_hash: str
    """sha256 over images, labels, class names and, where there are any, captions."""
    preparation: dict[str, Any] = field(default_factory=dict)
    """What was done to the images since they left their file; empty for nothing."""
    captions: tuple[str, ...] | None = None
    """The text that came with each image, N in all; None where the data has none."""

    def __len__(self) -> int:
        return len(self.labels)


def make_image_set(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    name: str,
    split: str,
    source: str,
    preparation: dict[str, Any] | None = None,
    captions: Sequence[str] | None = None,
    allow_empty_classes: bool = False,
) -> ImageSet:
    """Check the arrays and make the record; (N, H, W) is read as grey.

    ``source`` names the file or folder in messages. ``allow_empty_classes`` is for what was cut or mapped
    to a base's classes, where a class without images is legitimate.

    Raises:
        DataError: wrong type, shape or number, a label out of range, a class without images, captions that
            are not one text an image.
    """
    images = _check_images(images, source)
    labels = _check_labels(labels, len(images), class_names, source)
    if not allow_empty_classes:
        _check_no_empty_class(labels, class_names, split, source)
    names = tuple(str(item) for item in class_names)
    texts = None if captions is None else _check_captions(captions, len(images), source)
    digest = content_hash(images, labels, names, texts)
    return ImageSet(images, labels, names, name, split, digest, dict(preparation or {}), texts)


def with_images(
    image_set: ImageSet,
    images: np.ndarray,
    preparation: dict[str, Any],
    labels: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
) -> ImageSet:
    """The set with the same pictures in another form, perhaps with other labels (a class may be left empty then).

    Args:
        image_set: whose name, split and captions stay.
        images: uint8 (N, H, W, C), in the same order.
        preparation: all that was done to them.
        labels, class_names: those of the set for None.
    """
    return make_image_set(
        images,
        image_set.labels if labels is None else labels,
        image_set.class_names if class_names is None else class_names,
        name=image_set.name,
        split=image_set.split,
        source=image_set.name,
        preparation=preparation,
        captions=image_set.captions,
        allow_empty_classes=True,
    )


def content_hash(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    captions: Sequence[str] | None = None,
) -> str:
    """sha256 (hex) over shapes, images, labels, class names and captions; the same on every machine."""
    digest = hashlib.sha256(repr((images.shape, tuple(class_names))).encode())
    digest.update(np.ascontiguousarray(images, dtype=np.uint8).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    if captions is not None:  # nothing is added where there are none: older hashes stay what they were
        digest.update(repr(tuple(captions)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _check_images(images: np.ndarray, source: str) -> np.ndarray:  # -> (N, H, W, C)
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise DataError(
            f"{source}: images are {images.dtype}, expected uint8 with values 0 to 255; convert them."
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        raise DataError(
            f"{source}: images have the shape {images.shape}, expected (N, H, W) or (N, H, W, C), C = 1 or 3."
        )
    if not len(images):
        raise DataError(f"{source}: holds no images; expected at least one.")
    return np.ascontiguousarray(images)


def _check_labels(
    labels: np.ndarray, count: int, class_names: Sequence[str], source: str
) -> np.ndarray:  # -> (N,)
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise DataError(
            f"{source}: labels have the shape {labels.shape}, expected ({count},), one for each image."
        )
    if labels.dtype.kind not in "iu":
        raise DataError(f"{source}: labels are {labels.dtype}, expected whole numbers (an integer array).")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{source}: label {labels[first]} of image {first} is out of range, expected 0 to "
            f"{len(class_names) - 1} ({len(class_names)} classes); {len(wrong)} of {count} labels are wrong."
        )
    return labels.astype(np.int64)


def _check_captions(captions: Sequence[str], count: int, source: str) -> tuple[str, ...]:
    if isinstance(captions, str) or len(captions) != count:
        came = "one text" if isinstance(captions, str) else str(len(captions))
        raise DataError(f"{source}: captions: got {came}, expected {count}, one for each image.")
    for index, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise DataError(f"{source}: the caption of image {index} is {caption!r}, expected a text.")
    return tuple(map(str, captions))


def _check_no_empty_class(labels: np.ndarray, class_names: Sequence[str], split: str, source: str) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    empty = [f"{class_names[index]!r} (class {index})" for index in np.flatnonzero(counts == 0)]
    if empty:
        raise DataError(
            f"{source}: no image of {', '.join(empty)} in the {split} split; every named class needs at "
            "least one. Add images or leave the class out of the data."
        )
