"""The public sets that torchvision reads: its own classes do the reading, this file finds faults in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from superlora_diffusion.data.cache import cache_root
from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.records import ImageSet, Split, make_image_set
from superlora_diffusion.errors import DataError

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Official:
    """How one family of torchvision classes is asked, and where its files lie."""

    class_name: str
    split_argument: Callable[[Split], dict[str, Any]]
    files: Callable[[Any, Split], list[str]]
    """(torchvision class, split) -> the files it reads, relative to the root."""
    class_names: Callable[[Any], tuple[str, ...]]


def _train_flag(split: Split) -> dict[str, Any]:
    return {"train": split == "train"}


def _mnist_files(kind: Any, split: Split) -> list[str]:
    # All four, whichever the split: torchvision looks for all of them.
    return [f"{kind.__name__}/raw/{name.removesuffix('.gz')}" for name, _ in kind.resources]


def _single_file(kind: Any, split: Split) -> list[str]:
    return [kind.split_list[split][1]]


def _cifar_files(kind: Any, split: Split) -> list[str]:
    names = [name for name, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]
    return [f"{kind.base_folder}/{name}" for name in names]


def _digits(dataset: Any) -> tuple[str, ...]:
    return DIGITS


def _own_names(dataset: Any) -> tuple[str, ...]:
    return tuple(dataset.classes)


OFFICIAL: dict[str, Official] = {
    "mnist": Official("MNIST", _train_flag, _mnist_files, _digits),
    "fashionmnist": Official("FashionMNIST", _train_flag, _mnist_files, _own_names),
    "usps": Official("USPS", _train_flag, _single_file, _digits),
    "svhn": Official("SVHN", lambda split: {"split": split}, _single_file, _digits),
    "cifar10": Official("CIFAR10", _train_flag, _cifar_files, _own_names),
    "cifar100": Official("CIFAR100", _train_flag, _cifar_files, _own_names),
}


def load_official(config: DataConfig, split: Split) -> ImageSet:
    """One split of a torchvision set, from ``config.root`` (by default ``torchvision`` in the cache folder).

    Raises:
        DataError: files are missing and ``download`` is off, the download failed, or a file is broken.
    """
    import torchvision.datasets

    official = OFFICIAL[config.name]
    kind = getattr(torchvision.datasets, official.class_name)
    root = Path(config.root).expanduser() if config.root else cache_root() / "torchvision"
    paths = [root / name for name in official.files(kind, split)]
    if config.download:
        _download(config.name, kind, root, official.split_argument(split))
    _refuse_missing(config.name, paths)
    dataset = _read(config.name, kind, root, official.split_argument(split), paths)
    images, labels = _arrays(dataset)
    source = str(paths[0].parent if len(paths) > 1 else paths[0])
    return make_image_set(
        images, labels, official.class_names(dataset), name=config.name, split=split, source=source
    )


def _refuse_missing(name: str, paths: list[Path]) -> None:
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(
            f"{missing[0]}: not found; {name} expects its official files there. Set data.root to the folder "
            "that torchvision's sets lie in, or data.download=true to fetch them."
        )


def _download(name: str, kind: Any, root: Path, split_argument: dict[str, Any]) -> None:
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):  # two runs that start together fetch once
            kind(root, download=True, **split_argument)
    except Exception as error:  # torchvision lets through whatever urllib, tarfile and its readers raise
        raise DataError(
            f"{root}: {name} could not be downloaded or read ({type(error).__name__}: {error}). Check the "
            "network, remove half-fetched files there, or copy the official files there and set "
            "data.download=false."
        ) from error


def _read(name: str, kind: Any, root: Path, split_argument: dict[str, Any], paths: list[Path]) -> Any:
    try:
        return kind(root, download=False, **split_argument)
    except (
        Exception
    ) as error:  # the files are there, so it is their content; each format fails in its own way
        listed = ", ".join(str(path) for path in paths)
        raise DataError(
            f"{name}: torchvision cannot read {listed} ({type(error).__name__}: {error}). One of them is "
            "incomplete or not the official file; remove it and set data.download=true, or copy it anew."
        ) from error


def _arrays(dataset: Any) -> tuple[np.ndarray, np.ndarray]:  # -> (N, H, W) or (N, H, W, 3), (N,)
    images = np.asarray(dataset.data)
    if images.ndim == 4 and images.shape[1] == 3:  # SVHN keeps (N, 3, H, W)
        images = images.transpose(0, 2, 3, 1)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    return images, np.asarray(labels, dtype=np.int64).reshape(-1)
