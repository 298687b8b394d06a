"""Reading single picture files: upright, without transparency, in the wanted shape."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from superlora_diffusion.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F")  # and I;16 and its kin: converting would clip them to white


def is_picture(file: Path) -> bool:
    """Whether it is a file whose name says that it is an image."""
    return file.suffix.lower() in SUFFIXES and file.is_file()


def common_format(files: Iterable[Path]) -> tuple[int, int]:
    """The shortest side, and 1 channel if every picture is grey, else 3; from their headers alone."""
    shortest, grey = None, True
    for file in files:
        with _opened(file) as image:
            shortest = min(image.size) if shortest is None else min(shortest, *image.size)
            grey = grey and image.mode in GREY_MODES
    if shortest is None:
        raise ValueError("no files were given")
    return shortest, 1 if grey else 3


def read_picture(file: Path, channels: int) -> Image:
    """The picture, turned upright and laid on white where transparent, in 1 (grey) or 3 (RGB) channels.

    Raises:
        DataError: it cannot be read or has more than 8 bits a channel; with the file's name.
    """
    from PIL import ImageOps

    with _opened(file) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
        except Exception as error:  # each of Pillow's decoders fails in its own way
            raise _broken(file, error) from error
        return _flatten(upright, "L" if channels == 1 else "RGB")


def cover(picture: Image, shape: tuple[int, int]) -> np.ndarray:  # -> (*shape, C) uint8
    """The picture scaled until it just covers ``shape`` (height, width), and cut to its centre."""
    from PIL import Image, ImageOps

    if picture.size != shape[::-1]:
        picture = ImageOps.fit(picture, shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(*shape, -1)


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
