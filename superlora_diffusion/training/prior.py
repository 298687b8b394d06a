"""Prior preservation: images of a class, drawn by the untouched base, that train beside the run's own.

Ruiz et al. 2022 (DreamBooth, arXiv 2208.12242), section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.records import ANONYMOUS_CLASS, ImageSet, make_image_set
from ..errors import ConfigError
from ..files import write_atomically
from ..models.base import Base
from ..runs.config import RunConfig
from ..sampling.producer import generate, settings_for


def check_prior(config: RunConfig, base: Base) -> None:
    """Raise ConfigError where the base or the data cannot have prior preservation."""
    if config.train.prior is None:
        return
    if not base.takes_text:
        text = f"base {base.name!r} takes no text, so no class can be named in a prompt; leave it out."
        raise ConfigError(faults=[("train.prior", text)])
    if config.data.buckets:
        text = "images of several shapes (data.buckets) do not fit into one batch with it; give up one of the two."
        raise ConfigError(faults=[("train.prior", text)])


def draw_prior(
    config: RunConfig, base: Base, folder: Path, on_done: Callable[[str, int, int], None] = lambda *told: None
) -> None:
    """Draw the images that are not in the folder yet; nothing may be attached to the network.

    Args:
        config: the run's, with ``train.prior``.
        base: on the device where it shall draw.
        folder: where NNNNN.png lie.
        on_done: told ("prior images", how many more, of how many).
    """
    prior = config.train.prior
    settings = settings_for(base, config.sampling, config.data.resolution)
    missing = [index for index in range(prior.images) if not _path(folder, index).is_file()]
    while missing:
        first, count = missing[0], 1
        while count < min(settings.batch_size, len(missing)) and missing[count] == first + count:
            count += 1
        images = generate(base, [prior.prompt] * count, count, settings, config.seed, first)
        for index, image in enumerate(images, first):
            write_atomically(_path(folder, index), lambda partial, image=image: _save(image, partial))
        missing = missing[count:]
        on_done("prior images", count, prior.images)


def read_prior(config: RunConfig, folder: Path) -> ImageSet:
    """The images of :func:`draw_prior` with their prompt."""
    prior = config.train.prior
    images = np.stack([np.asarray(Image.open(_path(folder, index))) for index in range(prior.images)])
    return make_image_set(
        images,
        np.zeros(len(images), dtype=np.int64),
        (ANONYMOUS_CLASS,),
        name="prior",
        split="train",
        source=str(folder),
        captions=[prior.prompt] * len(images),
    )


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.png"


def _save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).save(path, format="PNG")
