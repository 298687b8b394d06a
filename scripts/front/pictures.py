"""front-samples.png: real images, the base's and some settings', a row each, the same classes and noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from superlora_diffusion.errors import RunError
from superlora_diffusion.files import write_atomically

from .gather import Gathered, Run

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from superlora_diffusion.models.base import Base

_MOST = 10
"""Classes shown."""


def runs_named(gathered: Gathered, names: Sequence[str]) -> list[Run]:
    """The run of the lowest seed of each setting, in the order of the names.

    Raises:
        RunError: for a name that no run has.
    """
    found: dict[str, Run] = {}
    for run in sorted(gathered.runs, key=lambda run: run.values["seed"]):
        found.setdefault(run.values["setting"], run)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise RunError(
            f"--pictures names {', '.join(unknown)}; the runs with scores are of {', '.join(found)}."
        )
    return [found[name] for name in names]


def save_pictures(gathered: Gathered, names: Sequence[str], path: Path, seed: int = 0) -> None:
    """Draw and write the rows.

    Raises:
        SuperLoRAError: for unknown names, and where a base, adapter or data set cannot be read.
    """
    rows, classes = draw_rows(runs_named(gathered, names), seed)
    sheet = lay_out(rows, classes)
    write_atomically(path, lambda partial: sheet.save(partial, format="PNG", optimize=True))


def draw_rows(runs: Sequence[Run], seed: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Images of each row by its label, (columns, H, W, C), and the names of the columns."""
    from superlora_diffusion.models.storage import load_base
    from superlora_diffusion.runs.source import open_source

    config = runs[0].config
    base = load_base(config.base)
    real, classes = _real_row(base, runs[0])
    rows = {"real": real, "base": _drawn(base, runs[0], len(real), seed)}
    for run in runs:
        source = open_source(str(run.folder))
        rows[f"{run.values['setting']}\n{run.values['parameters']:,}"] = _drawn(
            source.base, run, len(real), seed
        )
    return rows, classes


def _real_row(base: Base, run: Run) -> tuple[np.ndarray, list[str]]:
    from superlora_diffusion.models.images import load_for
    from superlora_diffusion.report.pictures import first_of_each

    images = load_for(base, run.config.data, "test", base.channels)[0]
    columns = min(len(base.class_names) or _MOST, _MOST)
    return images.images[first_of_each(images.labels, columns, 1)], list(base.class_names[:columns])


def _drawn(base: Base, run: Run, count: int, seed: int) -> np.ndarray:
    import numpy as np

    from superlora_diffusion.sampling.producer import asked_for, generate, run_settings_for

    asked = asked_for(base, base.class_names, np.arange(count))
    settings = run_settings_for(base, run.config.sampling, run.config.data.resolution)
    return generate(base, asked, count, settings, seed)


def lay_out(rows: dict[str, np.ndarray], classes: Sequence[str]) -> Image.Image:
    """The rows below each other with the classes above, their labels at the left."""
    import numpy as np
    from side_by_side import beside

    from superlora_diffusion.sampling.grid import grid_image

    pictures = [images if images.shape[-1] == 3 else images.repeat(3, axis=-1) for images in rows.values()]
    images = np.concatenate(pictures)
    zoom = max(1, round(48 / images.shape[1]))
    grid = grid_image(images, len(pictures[0]), list(classes) or None, zoom)
    return beside(_labels(list(rows), grid.height, zoom * images.shape[1], 16 if classes else 0), grid)


def _labels(names: Sequence[str], height: int, side: int, head: int) -> Image.Image:
    """The left margin; rows as ``grid_image`` lays them, two pixels apart below its head."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(12)
    width = 8 + round(max(font.getlength(line) for name in names for line in name.splitlines()))
    margin = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(margin)
    for row, name in enumerate(names):
        middle = head + 2 + row * (side + 2) + side / 2
        draw.multiline_text((width - 2, middle), name, fill="black", font=font, anchor="rm", align="right")
    return margin
