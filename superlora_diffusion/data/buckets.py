"""Images at the size a text-to-image base trains at: squares, or buckets that keep pictures' proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.imagefolder import Folder, find_folder
from superlora_diffusion.data.loading import check_split, evenly, load_image_set
from superlora_diffusion.data.pictures import cover, read_picture
from superlora_diffusion.data.preparation import COVER, cut_off, prepare, resize_and_convert
from superlora_diffusion.data.records import ImageSet, Split, make_image_set, with_images
from superlora_diffusion.errors import ConfigError

Shape = tuple[int, int]  # (height, width)


def load_buckets(config: DataConfig, split: Split, size: int, channels: int, multiple: int) -> list[ImageSet]:
    """What the training of a text-to-image model reads: one set for each shape that images come in.

    Without ``config.buckets`` this is one set of squares, ``size`` x ``size``: picture files are scaled by their
    short side and centre-cropped, arrays go through :func:`prepare`. With it each image goes to the shape of
    :func:`bucket_shapes` that is nearest to its own proportions, is scaled to cover it and centre-cropped; a
    shape without images is left out, one with a single image is kept. The sets are in the order of the shapes,
    the images in each in the order of the data; class names are those of the whole data, labels and captions
    stay, and ``preparation`` says what was done. Picture files are read at their full size. All images are
    held in memory, as bytes: 0.8 MB each at 512 x 512, 3 MB at 1024 x 1024.

    Args:
        config: its ``resolution`` is not read here, ``size`` is.
        size: side in pixels of a square; about the root of the number of pixels of any other shape.
        channels: 3 for RGB, 1 for grey.
        multiple: what the base's sides must be multiples of (8 for most autoencoders).

    Raises:
        ConfigError: a size that is no such multiple, or a class map (a base that reads text has no classes).
        DataError: what loading the data raises.
    """
    check_split(split)
    shapes = _shapes(config, size, multiple)
    kind, _, path = config.name.partition(":")
    if kind == "imagefolder":
        return _from_files(find_folder(path, config, split), config, split, shapes, channels)
    image_set = load_image_set(config, split)
    if not config.buckets:
        return [prepare(image_set, size, channels, None)]
    return [_from_arrays(image_set, shapes, channels)]


def bucket_shapes(size: int, multiple: int, ratio: float) -> tuple[Shape, ...]:
    """The (height, width) that buckets may have, from the widest to the tallest.

    For each width that is a multiple of ``multiple`` the height is the multiple that comes nearest to
    ``size`` x ``size`` pixels, and the same turned by 90 degrees; longest side to shortest is at most ``ratio``.
    """
    shapes = set()
    for long in range(size, math.floor(size * ratio) + 1, multiple):
        # size * size / long in units of multiple, rounded half down, in whole numbers.
        short = (2 * size * size + long * multiple - 1) // (2 * long * multiple) * multiple
        if short and long <= ratio * short:
            shapes |= {(short, long), (long, short)}
    return tuple(sorted(shapes, key=lambda shape: Fraction(*shape)))


@lru_cache(maxsize=4096)
def nearest_shape(shape: Shape, shapes: tuple[Shape, ...]) -> Shape:
    """The one of ``shapes`` whose height to width is by the smallest factor off that of ``shape``."""

    def factor(other: Shape) -> Fraction:
        off = Fraction(shape[0] * other[1], shape[1] * other[0])
        return max(off, 1 / off)

    return min(shapes, key=factor)


def _shapes(config: DataConfig, size: int, multiple: int) -> tuple[Shape, ...]:
    if config.class_map:
        raise ConfigError("data.class_map is set, but a base that reads text has no classes; leave it out.")
    step = math.lcm(multiple, config.bucket_multiple) if config.buckets else multiple
    if size < 1 or size % step:
        what = f", with data.bucket_multiple={config.bucket_multiple}," if config.buckets else ""
        raise ConfigError(
            f"data.resolution: got {size}; for this base{what} it must be a multiple of {step}: "
            f"take {max(step, round(size / step) * step)}."
        )
    return bucket_shapes(size, step, config.bucket_ratio) if config.buckets else ((size, size),)


def _from_arrays(image_set: ImageSet, shapes: tuple[Shape, ...], channels: int) -> ImageSet:
    done = dict(image_set.preparation)
    shape = nearest_shape(image_set.images.shape[1:3], shapes)
    return with_images(
        image_set, resize_and_convert(image_set.images, shape, channels, done, crop=True), done
    )


def _from_files(
    folder: Folder, config: DataConfig, split: Split, shapes: tuple[Shape, ...], channels: int
) -> list[ImageSet]:
    members: dict[Shape, list[int]] = {shape: [] for shape in shapes}
    arrays: dict[Shape, list[np.ndarray]] = {shape: [] for shape in shapes}
    crops = dict.fromkeys(shapes, 0.0)
    limit = config.limit if config.limit is not None else len(folder.files)
    for index in evenly(folder.labels, limit):
        picture = read_picture(folder.files[index], channels)
        own = picture.size[::-1]
        shape = nearest_shape(own, shapes)
        members[shape].append(int(index))
        arrays[shape].append(cover(picture, shape))
        crops[shape] = max(crops[shape], cut_off(own, shape))
    done = folder.preparation | ({"limit": limit} if limit < len(folder.files) else {})
    return [
        # Popped, so that no more than one bucket is in memory twice.
        _bucket(
            folder, config.name, split, members[shape], arrays.pop(shape), done | _note(shape, crops[shape])
        )
        for shape in shapes
        if members[shape]
    ]


def _note(shape: Shape, crop: float) -> dict[str, Any]:
    return {"resize": {"from": "each its own", "to": list(shape), "by": COVER, "largest_crop": crop}}


def _bucket(
    folder: Folder,
    name: str,
    split: Split,
    members: Sequence[int],
    arrays: list[np.ndarray],
    preparation: dict[str, Any],
) -> ImageSet:
    captions = folder.captions
    return make_image_set(
        np.stack(arrays),
        folder.labels[members],
        folder.class_names,
        name=name,
        split=split,
        source=str(folder.root),
        preparation=preparation,
        captions=None if captions is None else [captions[index] for index in members],
        allow_empty_classes=True,
    )
