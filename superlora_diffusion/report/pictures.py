"""Sample grids and real images as data URIs, small enough that a page with all of them stays below its limit."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.loading import load_image_set
from ..errors import SuperLoRAError
from ..sampling.grid import grid_image
from .collect import Run

PAGE_BUDGET = 3_000_000
"""Bytes of all grids of a page together, before base64 adds a third."""
_LARGEST, _WIDEST = 40_000, 720
_COLUMNS, _ROWS, _ZOOMED = 10, 4, 48


@dataclass(frozen=True)
class Picture:
    """An image for the page, or why there is none."""

    uri: str = ""
    problem: str = ""


def encode(image: Image.Image, budget: int) -> str:
    """A WebP data URI: lossless if that fits into ``budget`` bytes, else the best quality and size that does."""
    image = image.convert("RGB")
    if image.width > _WIDEST:
        image = image.resize((_WIDEST, max(1, round(image.height * _WIDEST / image.width))))
    data = _webp(image, lossless=True)
    for quality in (85, 70, 50):
        if len(data) <= budget:
            break
        data = _webp(image, quality=quality)
    while len(data) > budget and image.width > 64:
        image = image.resize((image.width * 3 // 4, max(1, image.height * 3 // 4)))
        data = _webp(image, quality=50)
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")


def _webp(image: Image.Image, **options: object) -> bytes:
    packed = io.BytesIO()
    image.save(packed, format="WEBP", method=4, **options)
    return packed.getvalue()


def load_grids(runs: Sequence[Run]) -> dict[Path, Picture]:
    """The sample grid of each run, by its path."""
    count = sum(run.grid is not None for run in runs)
    budget = min(_LARGEST, PAGE_BUDGET // max(count, 1))
    return {run.path: _load_grid(run, budget) for run in runs}


def _load_grid(run: Run, budget: int) -> Picture:
    if run.grid is None:
        return Picture(problem="No samples: the run made no previews. Draw some with superlora-diff sample.")
    try:
        with Image.open(run.grid) as image:
            return Picture(encode(image, budget))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return Picture(problem=f"{run.grid.name} cannot be read: {error}")


def load_real_images(runs: Sequence[Run]) -> tuple[dict[Path, str], dict[str, Picture]]:
    """Real test images at the size that each run saw: (key of each run's data, picture by key).

    Runs of the same data share one picture.
    """
    keys: dict[Path, str] = {}
    pictures: dict[str, Picture] = {}
    for run in runs:
        if run.config is None:
            continue
        side = _side(run.path)
        data = run.config.data.model_dump_json(exclude={"augment", "class_map"})
        key = f"{data} at {side}"
        keys[run.path] = key
        if key not in pictures:
            pictures[key] = _real_grid(run, side)
    return keys, pictures


def _side(run: Path) -> int | None:
    """The side the data was brought to, as the run recorded it; None: it came as it is."""
    try:
        card = json.loads((run / "data.json").read_text(encoding="utf-8"))
        return int(card["test"]["preparation"]["resize"]["to"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _real_grid(run: Run, side: int | None) -> Picture:
    """Columns of one class each, as previews have them."""
    try:
        images = load_image_set(run.config.data, "test")
    except (SuperLoRAError, OSError) as error:
        return Picture(problem=f"Real images of {run.target} cannot be read here: {error}")
    names = images.class_names[:_COLUMNS]
    columns = len(names) if len(names) > 1 else 8
    chosen = (
        first_of_each(images.labels, columns, _ROWS)
        if len(names) > 1
        else np.arange(columns * _ROWS) % len(images)
    )
    pictures = [
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
        for image in images.images[chosen]
    ]
    if side is not None:
        pictures = [picture.resize((side, side), Image.Resampling.BILINEAR) for picture in pictures]
    array = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    labels = [name[:8] for name in names] if len(names) > 1 else None
    zoom = max(1, round(_ZOOMED / array.shape[1]))
    return Picture(encode(grid_image(array, columns, labels, zoom), _LARGEST))


def first_of_each(labels: np.ndarray, classes: int, rows: int) -> np.ndarray:
    """Indices of a grid with the first images of each class below each other; a class that is short is repeated.

    Args:
        labels: (N,) class of each image.
        classes: how many columns.
        rows: images of each class.

    Returns:
        (rows * classes,) row by row; classes without images show image 0.
    """
    members = [np.flatnonzero(labels == label) for label in range(classes)]
    columns = [np.resize(found if len(found) else np.array([0]), rows) for found in members]
    return np.stack(columns, axis=1).reshape(-1)
