"""The one place where images are resized, recoloured and relabelled to fit a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from superlora_diffusion.data.records import ImageSet, with_images
from superlora_diffusion.errors import ConfigError, DataError, nearest

RESIZE = "Pillow bilinear, antialiased"
COVER = f"scaled to cover ({RESIZE}), centre crop"
CONVERSIONS = {(3, 1): "RGB to grey by ITU-R BT.601 luma", (1, 3): "grey repeated over RGB"}


def prepare(
    image_set: ImageSet,
    size: int,
    channels: int,
    classes: int | None,
    class_map: Mapping[int | str, int] | None = None,
    *,
    base_class_names: Sequence[str] | None = None,
) -> ImageSet:
    """The set as a base of ``size`` pixels, ``channels`` (1 or 3) and ``classes`` classes wants it.

    ``classes=None`` is an unconditional base: labels and class names stay (``class_map`` is then refused).
    Otherwise the labels become the base's. Where the base knows the names of its classes, these are the names
    then, and data whose classes are called otherwise need a map even if there are as many. Where it does not,
    a class is named after the data's classes that map to it, joined by ``/``, or else by its number.
    Captions stay. ``preparation`` of the result says what was done.

    Raises:
        DataError: more or other classes than the base knows, without a map that says where they go.
        ConfigError: a map that names no class of the data, misses one, or points beyond the base's classes.
    """
    if size < 1 or channels not in (1, 3):
        raise ConfigError(
            f"the base wants size {size} and {channels} channels; expected size >= 1, 1 or 3 channels."
        )
    done = dict(image_set.preparation)
    images = resize_and_convert(image_set.images, (size, size), channels, done)
    labels, names = _relabel(image_set, classes, class_map, base_class_names, done)
    return with_images(image_set, images, done, labels, names)


def resize_and_convert(
    images: np.ndarray, shape: tuple[int, int], channels: int, done: dict[str, Any], *, crop: bool = False
) -> np.ndarray:  # -> (N, *shape, channels)
    """Images (N, H, W, C) in another (height, width) and number of channels; what was done is noted in ``done``.

    What has other proportions than ``shape`` is stretched, or with ``crop`` scaled to cover it and cut to its
    centre.
    """
    # Grey first when the colour goes, RGB last when it comes: the fewer channels are resized, the better.
    if images.shape[-1] > channels:
        images = _convert(images, channels, done)
    if images.shape[1:3] != shape:
        images = _resize(images, shape, done, crop)
    if images.shape[-1] < channels:
        images = _convert(images, channels, done)
    return images


def _convert(images: np.ndarray, channels: int, done: dict[str, Any]) -> np.ndarray:  # -> (N, H, W, channels)
    done["channels"] = CONVERSIONS[images.shape[-1], channels]
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    # Pillow's integers: 16-bit fixed point, rounded; a block at a time to keep the wide array small.
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    blocks = np.array_split(images, max(1, len(images) // 4096))
    grey = [((block @ weights + 0x8000) >> 16).astype(np.uint8) for block in blocks]
    return np.concatenate(grey)[..., None]


def _resize(
    images: np.ndarray, shape: tuple[int, int], done: dict[str, Any], crop: bool
) -> np.ndarray:  # -> (N, *shape, C)
    from PIL import Image, ImageOps

    from_shape = list(images.shape[1:3])
    done["resize"] = {"from": from_shape, "to": list(shape), "by": COVER if crop else RESIZE}
    if crop:
        done["resize"]["largest_crop"] = cut_off(images.shape[1:3], shape)
    resized = np.empty((len(images), *shape, images.shape[-1]), dtype=np.uint8)
    for target, image in zip(resized, images, strict=True):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        change = ImageOps.fit if crop else Image.Image.resize
        picture = change(picture, shape[::-1], Image.Resampling.BILINEAR)
        target[...] = np.asarray(picture).reshape(target.shape)
    return resized


def cut_off(shape: tuple[int, ...], target: tuple[int, int]) -> float:
    """The share of a picture of ``shape`` (height, width) that is lost where it covers ``target``, to 3 places."""
    one, other = shape[0] * target[1], shape[1] * target[0]
    return round(1 - min(one, other) / max(one, other), 3)


def _relabel(
    image_set: ImageSet,
    classes: int | None,
    class_map: Mapping[int | str, int] | None,
    base_names: Sequence[str] | None,
    done: dict[str, Any],
) -> tuple[np.ndarray, tuple[str, ...]]:
    names = image_set.class_names
    if classes is None:
        if class_map:
            raise ConfigError("data.class_map is set, but the base is unconditional; leave class_map out.")
        return image_set.labels, names
    if class_map is None:
        _refuse_unmapped(image_set, classes, base_names)
        return image_set.labels, names
    table = _map_table(names, classes, class_map)
    done["class_map"] = {name: int(target) for name, target in zip(names, table, strict=True)}
    if base_names is not None:
        return table[image_set.labels], tuple(base_names)
    sources = [
        [name for name, target in zip(names, table, strict=True) if target == base] for base in range(classes)
    ]
    return table[image_set.labels], tuple("/".join(group) or str(base) for base, group in enumerate(sources))


def _refuse_unmapped(image_set: ImageSet, classes: int, base_names: Sequence[str] | None) -> None:
    names = image_set.class_names
    if len(names) == classes and (base_names is None or tuple(base_names) == names):
        return
    known = f" ({_listed(tuple(base_names))})" if base_names is not None else ""
    raise DataError(
        f"{image_set.name}: has {len(names)} classes ({_listed(names)}), the base has {classes}{known}. "
        "Say for every class of the data which class of the base it is, by its name or number, as in "
        f"data.class_map={{{_example(names, classes)}}}; several may go to one."
    )


def _map_table(names: tuple[str, ...], classes: int, class_map: Mapping[int | str, int]) -> np.ndarray:
    """For each class of the data the base's class, (len(names),) int64; all faults are reported at once."""
    table = np.full(len(names), -1, dtype=np.int64)
    faults = []
    for key, target in class_map.items():
        index = _class_index(key, names)
        if index is None:
            faults.append(f"{key!r} is no class of the data ({_listed(names)}).{nearest(str(key), names)}")
        elif not 0 <= target < classes:
            faults.append(f"{key!r} goes to {target}, the base has the classes 0 to {classes - 1}.")
        elif table[index] not in (-1, target):
            faults.append(f"class {names[index]!r} goes to both {table[index]} and {target}.")
        else:
            table[index] = target
    if missing := [name for index, name in enumerate(names) if table[index] < 0 and not faults]:
        faults.append(
            f"no base class is given for {_listed(missing)}; every class of the data needs one, as in "
            f"{{{_example(missing, classes)}}}."
        )
    if faults:
        raise ConfigError("data.class_map: " + " ".join(faults))
    return table


def _class_index(key: int | str, names: tuple[str, ...]) -> int | None:
    """The class called ``key``; or number ``key`` in order, unless classes are called by numbers."""
    if str(key) in names:
        return names.index(str(key))
    by_number = str(key).isdecimal() and not any(name.isdecimal() for name in names)
    return int(key) if by_number and int(key) < len(names) else None


def _example(names: tuple[str, ...] | list[str], classes: int) -> str:
    shown = [f"{name}: {index % classes}" for index, name in enumerate(names[:3])]
    return ", ".join(shown + ["..."] * (len(names) > 3))


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
