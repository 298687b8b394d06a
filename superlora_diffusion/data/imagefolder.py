"""A user's own images in folders, one folder a class: `imagefolder:PATH`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from superlora_diffusion.data.holdout import TEST_EVERY
from superlora_diffusion.data.records import SPLITS, ImageSet, Split, make_image_set
from superlora_diffusion.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
LARGEST_SIDE = 256
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F")  # and I;16 and its kin: converting would clip them to white

Files = dict[str, list[Path]]  # class name -> its images


def load_imagefolder(path: str, split: Split) -> ImageSet:
    """PATH/train/CLASS/* and PATH/test/CLASS/* if there, else PATH/CLASS/*, a fifth of each class held out.

    Classes are in the order of their names, numbers by value. The images become squares of one size: the
    smallest short side of all images of both splits, at most 256 px. What has this size stays as it is, the
    rest is scaled by its short side and centre-cropped. Grey if every image is grey, else RGB; transparent
    images are laid on white.

    Raises:
        DataError: a missing folder, a class without images, classes that differ between the splits, an image
            that cannot be read or has more than 8 bits a channel; with the file's or folder's name.
    """
    root = Path(path).expanduser()
    by_split = _find_files(root)
    files = by_split[split]
    side, channels = _common_format(
        file for group in by_split.values() for part in group.values() for file in part
    )
    paths = [(file, label) for label, group in enumerate(files.values()) for file in group]
    images = np.stack([_read_square(file, side, channels) for file, _ in paths])
    return make_image_set(
        images,
        np.array([label for _, label in paths]),
        tuple(files),
        name=f"imagefolder:{path}",
        split=split,
        source=str(root),
        preparation={
            "folder": {"side": side, "by": "short side scaled (Pillow bilinear, antialiased), centre crop"}
        },
    )


# --- which files --------------------------------------------------------------------------------------------


def _find_files(root: Path) -> dict[str, Files]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one that holds a folder of images for each class.")
    present = [split for split in SPLITS if (root / split).is_dir()]
    if len(present) == 1:
        raise DataError(
            f"{root}: holds the folder {present[0]} alone of train and test; expected both, or neither and "
            "the class folders themselves."
        )
    if not present:
        return _hold_out(_classes(root), root)
    by_split = {split: _classes(root / split) for split in SPLITS}
    if different := set(by_split["train"]) ^ set(by_split["test"]):
        raise DataError(
            f"{root}: the classes of train and test differ: {', '.join(sorted(different))} is in one "
            "only; expected the same class folders in both."
        )
    return by_split


def _classes(folder: Path) -> Files:
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if not names:
        raise DataError(f"{folder}: holds no class folders; expected {folder / 'CLASS' / 'image.png'}.")
    numbers = all(name.isdecimal() for name in names)
    return {
        name: _images(folder / name)
        for name in sorted(names, key=(lambda n: (int(n), n)) if numbers else None)
    }


def _images(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
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


# --- what is in them ----------------------------------------------------------------------------------------


def _common_format(files: Any) -> tuple[int, int]:
    """Side and channels that all images are brought to, from their headers alone."""
    shapes, grey = set(), True
    for file in files:
        with _opened(file) as image:
            shapes.add(image.size)
            grey = grey and image.mode in GREY_MODES
    shortest = min(min(shape) for shape in shapes)
    return min(LARGEST_SIDE, shortest), 1 if grey else 3


def _read_square(file: Path, side: int, channels: int) -> np.ndarray:  # -> (side, side, channels) uint8
    from PIL import Image, ImageOps

    with _opened(file) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
        except Exception as error:  # each of Pillow's decoders fails in its own way
            raise _broken(file, error) from error
        flat = _flatten(upright, "L" if channels == 1 else "RGB")
    if flat.size != (side, side):
        flat = ImageOps.fit(flat, (side, side), Image.Resampling.BILINEAR)  # short side, then the centre
    return np.asarray(flat).reshape(side, side, channels)


def _flatten(image: Image, mode: str) -> Image:
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert(mode)
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert(mode)


def _opened(file: Path) -> Image:
    from PIL import Image

    try:
        image = Image.open(file)
    except Exception as error:
        raise _broken(file, error) from error
    if image.mode.startswith(DEEP_MODES):
        image.close()
        raise DataError(f"{file}: has the mode {image.mode}, expected 8 bits a channel; convert the image.")
    return image


def _broken(file: Path, error: Exception) -> DataError:
    cause = f"{type(error).__name__}: {error}"
    return DataError(f"{file}: cannot be read as an image ({cause}). Replace the file or remove it.")
