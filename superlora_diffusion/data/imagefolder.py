"""A user's own images in folders, one folder a class or one folder for all: `imagefolder:PATH`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.folder_captions import read_captions
from superlora_diffusion.data.holdout import TEST_EVERY
from superlora_diffusion.data.pictures import SUFFIXES, common_format, cover, is_picture, read_picture
from superlora_diffusion.data.records import ANONYMOUS_CLASS, SPLITS, ImageSet, Split, make_image_set
from superlora_diffusion.errors import DataError

LARGEST_SIDE = 256
SHARED = (
    f"fewer than {TEST_EVERY} images in a folder without classes: none is held out, the test split is the training "
    "images themselves"
)

Files = dict[str, list[Path]]  # class name -> its images


@dataclass(frozen=True)
class Folder:
    """Which files one split of a folder holds; nothing is decoded yet."""

    root: Path
    files: list[Path]
    labels: np.ndarray
    """int64, (N,), of the files."""
    class_names: tuple[str, ...]
    all_files: list[Path]
    """Those of both splits."""
    captions: tuple[str, ...] | None = None
    """One a file."""
    preparation: dict[str, Any] = field(default_factory=dict)
    """What a user should know of the splitting; empty for nothing."""


def load_imagefolder(path: str, config: DataConfig, split: Split) -> ImageSet:
    """The images of :func:`find_folder` as squares of one size, for bases of one size.

    The size is the smallest short side of all images of both splits, at most 256 px (or ``config.resolution``,
    where that is more). What has this size stays as it is, the rest is scaled by its short side and
    centre-cropped. Grey if every image is grey, else RGB; transparent images are laid on white.

    Raises:
        DataError: what :func:`find_folder` raises, and an image that cannot be read or has more than 8 bits a
            channel; with the file's name.
    """
    folder = find_folder(path, config, split)
    shortest, channels = common_format(folder.all_files)
    side = min(shortest, max(LARGEST_SIDE, config.resolution or 0))
    images = np.stack([cover(read_picture(file, channels), (side, side)) for file in folder.files])
    done = {"side": side, "by": "short side scaled (Pillow bilinear, antialiased), centre crop"}
    return make_image_set(
        images,
        folder.labels,
        folder.class_names,
        name=config.name,
        split=split,
        source=str(folder.root),
        preparation=folder.preparation | {"folder": done},
        captions=folder.captions,
    )


def find_folder(path: str, config: DataConfig, split: Split) -> Folder:
    """PATH/train/CLASS/* and PATH/test/CLASS/* if there, else PATH/CLASS/*, a fifth of each class held out.

    Classes are in the order of their names, numbers by value. Instead of class folders the images themselves
    may lie there: they are then one class called "image". If there are fewer than five of these (the pictures
    of one thing that a text-to-image base is to learn), none is held out: both splits hold them all. Captions
    come from :func:`read_captions`.

    Raises:
        DataError: a missing folder, a class without images, classes that differ between the splits, captions
            that are broken or do not fit the images.
    """
    root = Path(path).expanduser()
    by_split, preparation = _find_files(root)
    files = by_split[split]
    everything = {file: None for group in by_split.values() for part in group.values() for file in part}
    captions = read_captions(root, list(everything), config.caption_column)
    chosen = [file for group in files.values() for file in group]
    return Folder(
        root=root,
        files=chosen,
        labels=np.repeat(np.arange(len(files)), [len(group) for group in files.values()]),
        class_names=tuple(files),
        all_files=list(everything),
        captions=None if captions is None else tuple(captions[file] for file in chosen),
        preparation=preparation,
    )


# --- which files --------------------------------------------------------------------------------------------


def _find_files(root: Path) -> tuple[dict[str, Files], dict[str, Any]]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one that holds a folder of images for each class.")
    present = [split for split in SPLITS if (root / split).is_dir()]
    if len(present) == 1:
        raise DataError(
            f"{root}: holds the folder {present[0]} alone of train and test; expected both, or neither and "
            "the class folders themselves."
        )
    if not present:
        classes = _classes(root)
        if _is_small_and_flat(classes, root):
            return {split: classes for split in SPLITS}, {"split": SHARED}
        return _hold_out(classes, root), {}
    by_split = {split: _classes(root / split) for split in SPLITS}
    if different := set(by_split["train"]) ^ set(by_split["test"]):
        raise DataError(
            f"{root}: the classes of train and test differ: {', '.join(sorted(different))} is in one "
            "only; expected the same class folders in both."
        )
    return by_split, {}


def _classes(folder: Path) -> Files:
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if not names:
        return {ANONYMOUS_CLASS: _loose_images(folder)}
    numbers = all(name.isdecimal() for name in names)
    return {
        name: _images(folder / name)
        for name in sorted(names, key=(lambda n: (int(n), n)) if numbers else None)
    }


def _loose_images(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.iterdir() if is_picture(file) and not file.name.startswith("."))
    if not found:
        raise DataError(
            f"{folder}: holds no class folders and no images; expected {folder / 'CLASS' / 'image.png'}, or "
            f"{folder / 'image.png'} for images without classes ({', '.join(SUFFIXES)})."
        )
    return found


def _is_small_and_flat(classes: Files, root: Path) -> bool:
    files = classes.get(ANONYMOUS_CLASS, [])
    return 0 < len(files) < TEST_EVERY and files[0].parent == root


def _images(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.rglob("*") if is_picture(file))
    if not found:
        raise DataError(
            f"{folder}: the class has no images; expected files ending in {', '.join(SUFFIXES)}. "
            "Add some or remove the folder."
        )
    return found


def _hold_out(classes: Files, root: Path) -> dict[str, Files]:
    """Every fifth image of each class, ordered by a hash of its name below ``root``, is for testing."""
    by_split: dict[str, Files] = {split: {} for split in SPLITS}
    for name, files in classes.items():
        if len(files) < 2:
            raise DataError(
                f"{root / name}: one image only; a fifth of each class is held out for testing, so expected "
                "at least two. Add images, or make train and test folders."
            )
        ordered = sorted(
            files, key=lambda file: hashlib.sha256(file.relative_to(root).as_posix().encode()).digest()
        )
        test = set(ordered[::TEST_EVERY])
        by_split["train"][name] = [file for file in files if file not in test]
        by_split["test"][name] = [file for file in files if file in test]
    return by_split
