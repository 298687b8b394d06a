"""Pictures that a run has of its adapter and, where it kept the images that were scored, of its base beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..report.collect import find_grid
from ..report.pictures import first_of_each
from ..runs.folder import RunFolder
from ..sampling.grid import save_grid

ADAPTER_PICTURE, BASE_PICTURE = "samples/adapter.png", "samples/base.png"
_ROWS, _COLUMNS = 4, 10


class _Images(NamedTuple):
    images: np.ndarray
    """uint8 (N, H, W, C)."""
    labels: np.ndarray
    """(N,)."""
    names: tuple[str, ...]


def find_pictures(run: RunFolder, name: str) -> dict[str, Callable[[Path], object]]:
    """Writers of the pictures a run has, by their published names; empty where it has none.

    Base and adapter are shown together only as grids of the same classes in the same order (images that ``eval-is
    --save-images`` kept), so that the eye compares like with like. Else the run's own grid is shown.
    """
    adapter, base = (_saved(run.samples, which) for which in (name, "base"))
    if adapter is not None and base is not None and np.array_equal(adapter.labels, base.labels):
        return {ADAPTER_PICTURE: partial(_write, adapter), BASE_PICTURE: partial(_write, base)}
    grid = find_grid(run.samples)
    if grid is not None:
        return {ADAPTER_PICTURE: partial(shutil.copyfile, grid)}
    return {} if adapter is None else {ADAPTER_PICTURE: partial(_write, adapter)}


def _saved(samples: Path, which: str) -> _Images | None:
    """The newest images kept of one model; None where there are none, or the file is no npz of images."""
    found = [
        path for path in samples.glob("scored-*.npz") if path.stem.rsplit("-", 1)[0] == f"scored-{which}"
    ]
    if not found:
        return None
    try:
        with np.load(max(found, key=lambda path: path.stat().st_mtime)) as stored:
            names = tuple(map(str, stored["class_names"]))
            return _Images(stored["images"], stored["labels"], names)
    except (OSError, ValueError, KeyError):
        return None


def _write(kept: _Images, path: Path) -> None:
    """A column a class, as previews have them; without classes eight columns."""
    count = min(len(kept.names), _COLUMNS)
    if count > 1:
        chosen = first_of_each(kept.labels, count, _ROWS)
        save_grid(path, kept.images[chosen], count, [name[:8] for name in kept.names[:count]])
    else:
        save_grid(path, kept.images[: 8 * _ROWS], 8)
