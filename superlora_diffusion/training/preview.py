"""Sample grids during training, by the one producer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..models.base import Base
from ..runs.config import RunConfig
from ..sampling.grid import save_grid
from ..sampling.producer import asked_for, generate, run_settings_for

_CLASSES, _PROMPTS, _UNASKED = 10, 4, 8
"""Columns of a preview: classes or prompts at most, images without either."""


def save_preview(path: Path, base: Base, config: RunConfig, captions: Sequence[str] = ()) -> None:
    """A column a class or prompt, ``preview.per_class`` rows, always the same noise.

    Args:
        path: of the PNG.
        base: what is drawn from.
        config: the run's.
        captions: of the training images, for a base that takes text and a config that names no prompts.
    """
    names = _columns(base, config, captions)
    columns = len(names) or _UNASKED
    count = columns * config.preview.per_class
    asked = asked_for(base, names, np.arange(count) % columns)
    drawn_by = run_settings_for(base, config.sampling, config.data.resolution)
    save_grid(path, generate(base, asked, count, drawn_by, seed=config.seed), columns, names or None)


def _columns(base: Base, config: RunConfig, captions: Sequence[str]) -> list[str]:
    if base.takes_text:
        return list(config.preview.prompts or list(dict.fromkeys(captions))[:_PROMPTS])
    return list(base.class_names[:_CLASSES])
