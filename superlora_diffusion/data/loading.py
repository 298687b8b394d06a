"""Data sets by name: one line in ``LOADERS`` each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from superlora_diffusion.data import embedded, imagefolder, npz, official, synthdigits
from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.records import SPLITS, ImageSet, Split, content_hash
from superlora_diffusion.errors import ConfigError, nearest

Loader = Callable[[DataConfig, Split], ImageSet]

LOADERS: dict[str, Loader] = {
    "mnist-mini": lambda config, split: embedded.load_mnist_mini(split),
    "synthdigits": lambda config, split: synthdigits.load_synthdigits(config.synthdigits, split),
    "digits": lambda config, split: embedded.load_digits(split),
    "svhn": official.load_official,
    "mnist": official.load_official,
    "usps": official.load_official,
    "fashionmnist": official.load_official,
    "cifar10": official.load_official,
    "cifar100": official.load_official,
}
PATH_LOADERS: dict[str, Callable[[str, DataConfig, Split], ImageSet]] = {
    "imagefolder": imagefolder.load_imagefolder,
    "npz": lambda path, config, split: npz.load_npz(path, split),
}


def load_image_set(config: DataConfig, split: Split) -> ImageSet:
    """The named set as it lies on disk, cut to ``config.limit``; :func:`prepare` then fits it to a base.

    Raises:
        ConfigError: no set of that name, or no such split.
        DataError: the set is missing or broken.
    """
    check_split(split)
    image_set = _load(config, split)
    return image_set if config.limit is None else take_evenly(image_set, config.limit)


def check_split(split: str) -> None:
    """Raise :class:`ConfigError` unless ``split`` is one of train and test."""
    if split not in SPLITS:
        raise ConfigError(f"split: got {split!r}, expected one of {', '.join(SPLITS)}.")


def accepted_names() -> tuple[str, ...]:
    """What ``data.name`` may be."""
    return (*LOADERS, *(f"{kind}:PATH" for kind in PATH_LOADERS))


def check_name(name: str) -> None:
    """Raise :class:`ConfigError` if no set is called ``name``; nothing is read."""
    kind, colon, path = name.partition(":")
    if colon and kind in PATH_LOADERS:
        if not path:
            raise ConfigError(f"got {name!r}, expected a path after the colon: {kind}:PATH.")
    elif name not in LOADERS:
        raise ConfigError(
            f"no data set is called {name!r}; expected one of {', '.join(accepted_names())}."
            f"{nearest(name, accepted_names())}"
        )


def take_evenly(image_set: ImageSet, limit: int) -> ImageSet:
    """The first images of each class, ``limit`` in all, as evenly as the classes' counts allow; order kept.

    The images are taken in rounds, one of each class in a round, until there are enough.
    """
    if limit >= len(image_set):
        return image_set
    chosen = evenly(image_set.labels, limit)
    images, labels, captions = image_set.images[chosen], image_set.labels[chosen], image_set.captions
    if captions is not None:
        captions = tuple(captions[index] for index in chosen)
    return replace(
        image_set,
        images=images,
        labels=labels,
        captions=captions,
        content_hash=content_hash(images, labels, image_set.class_names, captions),
        preparation=image_set.preparation | {"limit": limit},
    )


def evenly(labels: np.ndarray, limit: int) -> np.ndarray:  # (N,) int -> (min(N, limit),) int, ascending
    """Which images :func:`take_evenly` takes."""
    rank_in_class = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank_in_class[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, rank_in_class))[:limit])


def _load(config: DataConfig, split: Split) -> ImageSet:
    check_name(config.name)
    kind, colon, path = config.name.partition(":")
    return PATH_LOADERS[kind](path, config, split) if colon else LOADERS[config.name](config, split)
