"""What was drawn, as PNG files for the page, in a folder that goes when the page does."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ..sampling.grid import grid_image
from .session import Drawn

_SIDE = 440  # pixels that a grid of small pictures is enlarged to, about: as wide as it is shown
_HEAD, _GAP = 22, 12
_MOST = 400  # files in the folder; a page that is open for weeks does not fill the disk
_WIDEST_ROW = 10


@dataclass(frozen=True)
class Sheets:
    """Files of one drawing."""

    base: Path
    adapted: Path | None
    both: Path
    """Base and adapter side by side, with all settings in the PNG's text."""
    caption: str


class PictureFolder:
    """Writes drawings as PNG files and removes the oldest of too many."""

    def __init__(self, folder: Path, most: int = _MOST) -> None:
        self.folder, self.most = folder, most
        self._written: list[Path] = []

    def save(self, drawn: Drawn) -> Sheets:
        """Write one drawing."""
        base = _grid(drawn.base, drawn.labels)
        adapted = None if drawn.adapted is None else _grid(drawn.adapted, drawn.labels)
        both = base if adapted is None else _beside([base, adapted], ["base", drawn.name])
        text = json.dumps(drawn.settings)
        return Sheets(
            self._write("base", base, text),
            None if adapted is None else self._write("adapted", adapted, text),
            self._write("both", both, text),
            caption(drawn),
        )

    def _write(self, name: str, image: Image.Image, text: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        number = int(self._written[-1].name[:6]) + 1 if self._written else 1
        path = self.folder / f"{number:06d}-{name}.png"
        info = PngImagePlugin.PngInfo()
        info.add_text("superlora-diffusion", text)
        image.save(path, format="PNG", pnginfo=info)
        self._written.append(path)
        while len(self._written) > self.most:
            self._written.pop(0).unlink(missing_ok=True)
        return path


def caption(drawn: Drawn) -> str:
    """One line: what was drawn, how strongly, from which seed."""
    settings = drawn.settings
    mix = [f"{source['weight']:g}" for source in settings["sources"]]
    parts = [drawn.name]
    if drawn.adapted is not None:
        parts.append(f"scale {settings['scale']:g}")
        parts += [f"weights {' and '.join(mix)}"] if len(mix) > 1 else []
    sampling = settings["sampling"]
    parts += [f"seed {settings['seed']}", f"{sampling['sampler']} {sampling['steps']}"]
    parts.append(f"guidance {sampling['guidance_scale']:g}")
    return ", ".join(parts)


def columns_for(count: int, labels: Sequence[str] = ()) -> int:
    """How many pictures a row: the classes where they go round, else about as many as there are rows."""
    cycle = len(dict.fromkeys(labels))
    if 1 < cycle <= min(count, _WIDEST_ROW) and list(labels) == [labels[i % cycle] for i in range(count)]:
        return cycle
    least = math.ceil(math.sqrt(count))
    return next((wide for wide in range(least, 2 * least) if count % wide == 0), least)


def _grid(images: np.ndarray, labels: Sequence[str]) -> Image.Image:
    columns = columns_for(len(images), labels)
    zoom = max(1, round(_SIDE / (columns * images.shape[2])))
    different = len(dict.fromkeys(labels)) > 1
    heads = list(labels[:columns]) if different and columns < len(labels) + 1 else None
    rows_alike = heads and all(label == heads[i % columns] for i, label in enumerate(labels))
    return grid_image(images, columns, heads if rows_alike else None, zoom)


def _beside(sheets: Sequence[Image.Image], names: Sequence[str]) -> Image.Image:
    """Pictures in a row, each under its name."""
    width = sum(sheet.width for sheet in sheets) + _GAP * (len(sheets) - 1)
    whole = Image.new("RGB", (width, max(sheet.height for sheet in sheets) + _HEAD), "white")
    draw, font, x = ImageDraw.Draw(whole), ImageFont.load_default(14), 0
    for sheet, name in zip(sheets, names, strict=True):
        while len(name) > 1 and font.getlength(name) > sheet.width:
            name = name[:-2] + "…"
        draw.text((x + sheet.width / 2, _HEAD / 2), name, fill="black", font=font, anchor="mm")
        whole.paste(sheet, (x, _HEAD))
        x += sheet.width + _GAP
    return whole
