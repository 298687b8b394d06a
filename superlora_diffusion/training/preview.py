"""Sample grids during training, by the one producer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..models.base import Base
from ..runs.config import RunConfig
from ..sampling.grid import save_grid
from ..sampling.producer import generate


def save_preview(path: Path, base: Base, config: RunConfig) -> None:
    """A column a class (at most ten), ``preview.per_class`` rows, always the same noise."""
    columns = min(len(base.class_names), 10) or 8
    count = columns * config.preview.per_class
    classes = np.arange(count) % columns if base.classes is not None else None
    labels = [name[:8] for name in base.class_names[:columns]] or None
    sampling = config.sampling
    if base.null_class is None:
        sampling = sampling.model_copy(update={"guidance_scale": 1.0})
    images = generate(base, classes, count, sampling, seed=config.seed)
    save_grid(path, images, columns, labels)
