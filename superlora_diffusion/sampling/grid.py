"""Pictures for people: a grid of images with a label over each column or row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..files import write_atomically

_GAP = 2


def grid_image(
    images: np.ndarray, columns: int, column_labels: list[str] | None = None, zoom: int = 1
) -> Image.Image:
    """Lay images out row by row.

    Args:
        images: uint8 (N, H, W, C), C 1 or 3.
        columns: images a row.
        column_labels: text over each column.
        zoom: whole factor by which each image is enlarged (nearest neighbour).
    """
    if images.shape[-1] == 1:
        images = images.repeat(3, axis=-1)
    images = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    head = 16 if column_labels else 0
    size = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP + head)
    sheet = Image.new("RGB", size, "white")
    for index, image in enumerate(images):
        x, y = index % columns * (width + _GAP) + _GAP, index // columns * (height + _GAP) + _GAP + head
        sheet.paste(Image.fromarray(image), (x, y))
    _label_columns(sheet, column_labels or [], width)
    return sheet


def _label_columns(sheet: Image.Image, labels: list[str], width: int) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, label in enumerate(labels):
        draw.text(
            (column * (width + _GAP) + _GAP + width / 2, 8),
            _fit(label, width, font),
            fill="black",
            font=font,
            anchor="mm",
        )


def _fit(label: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """As much of a label as its column has room for."""
    if font.getlength(label) <= width + _GAP:
        return label
    while label and font.getlength(label + "…") > width + _GAP:
        label = label[:-1]
    return label + "…"


def save_grid(
    path: Path | str, images: np.ndarray, columns: int, column_labels: list[str] | None = None
) -> None:
    """Write a grid as PNG, small images enlarged to about 48 pixels."""
    zoom = max(1, round(48 / images.shape[1]))
    sheet = grid_image(images, columns, column_labels, zoom)
    write_atomically(path, lambda partial: sheet.save(partial, format="PNG"))
