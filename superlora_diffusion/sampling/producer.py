"""The one producer of images that ``sample``, the previews of training and ``eval-is`` all use.

Image i depends on (seed, i) and its class alone: each image draws from a generator of its own on the CPU,
so neither the batch size nor the device nor the number of images changes it (beyond float noise).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..errors import SamplingError
from ..models.base import Base
from ..models.conditioning import guide
from ..models.execution import speed_up
from ..randomness import generator_for
from .config import SamplingSettings
from .schedulers import make_scheduler


def image_generator(seed: int, index: int) -> torch.Generator:
    """The CPU generator of image ``index`` under ``seed``."""
    return generator_for("image", seed, index)


def generate(
    base: Base,
    classes: np.ndarray | None,
    count: int,
    settings: SamplingSettings,
    seed: int = 0,
    first: int = 0,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Draw images from a base; an adapter attached to its network takes part.

    Args:
        base: where the network and its noise schedule come from.
        classes: (count,) class indices, or None for an unconditional base.
        count: number of images.
        settings: sampler, steps, guidance scale, batch size.
        seed: with the image's index, decides its noise.
        first: index of the first image, to go on where another call stopped.
        on_batch: called with the number of images of each finished batch.

    Returns:
        uint8 array (count, height, width, channels).

    Raises:
        SamplingError: if classes are missing, out of range or given to an unconditional base.
        BaseModelError: if guidance is asked of a base without a null class.
    """
    batches = []
    for batch in generate_batches(base, classes, count, settings, seed, first):
        batches.append(batch)
        on_batch(len(batch))
    return np.concatenate(batches)


def generate_batches(
    base: Base,
    classes: np.ndarray | None,
    count: int,
    settings: SamplingSettings,
    seed: int = 0,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """The images of :func:`generate` one batch at a time, so that nobody needs to hold them all.

    Arguments and errors (raised at once) are those of :func:`generate`. The network is in eval mode until the
    last batch was taken or the iterator is closed.
    """
    labels = _checked_classes(base, classes, count)
    if base.classes is not None and settings.guidance_scale != 1:
        base.require_null_class(f"guidance scale {settings.guidance_scale:g}")
    return _batches(base, labels, count, settings, seed, first)


def _batches(
    base: Base, labels: Tensor | None, count: int, settings: SamplingSettings, seed: int, first: int
) -> Iterator[np.ndarray]:
    was_training = base.network.training
    speed_up(base.network, settings.channels_last, settings.compile)
    base.network.eval()
    try:
        for start in range(0, count, settings.batch_size):
            stop = min(start + settings.batch_size, count)
            generators = [image_generator(seed, first + i) for i in range(start, stop)]
            part = None if labels is None else labels[start:stop]
            yield to_uint8(_denoise(base, part, generators, settings))
    finally:
        base.network.train(was_training)


def _checked_classes(base: Base, classes: np.ndarray | None, count: int) -> Tensor | None:
    if count < 1:
        raise SamplingError(f"{count} images were asked for; at least 1 is accepted.")
    if base.classes is None:
        if classes is not None:
            raise SamplingError(f"base {base.name!r} is unconditional: it has no classes to ask for.")
        return None
    if classes is None or len(classes) != count:
        came = "none" if classes is None else str(len(classes))
        raise SamplingError(f"{count} images need one class each, but {came} were given.")
    wrong = sorted({int(c) for c in classes if not 0 <= c < base.classes})
    if wrong:
        raise SamplingError(f"classes {wrong} are unknown; base {base.name!r} has 0 to {base.classes - 1}.")
    return torch.as_tensor(np.asarray(classes), dtype=torch.long)


@torch.no_grad()
def _denoise(
    base: Base, labels: Tensor | None, generators: list[torch.Generator], settings: SamplingSettings
) -> Tensor:
    """One batch of images (B, C, H, W) in [-1, 1]."""
    scheduler = make_scheduler(settings.sampler, base.scheduler, settings.steps)
    device, dtype = base.network.device, base.network.dtype
    shape = (base.channels, base.size, base.size)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    images = noise.to(device) * scheduler.init_noise_sigma
    labels = None if labels is None else labels.to(device)
    extra = {"generator": generators} if settings.sampler == "ddpm" else {}
    for timestep in scheduler.timesteps:
        model_input = scheduler.scale_model_input(images, timestep).to(dtype)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            prediction = _predict(base, model_input, timestep.to(device), labels, settings.guidance_scale)
        images = scheduler.step(prediction.float(), timestep, images, **extra).prev_sample
    return images


def _predict(base: Base, images: Tensor, timestep: Tensor, labels: Tensor | None, scale: float) -> Tensor:
    """The network's prediction, guided: both halves in one batch, and no second half at scale 1."""
    if labels is None:
        return base.network(images, timestep).sample
    if scale == 1:
        return base.network(images, timestep, class_labels=labels).sample
    both = torch.cat([torch.full_like(labels, base.null_class), labels])
    unconditional, conditional = base.network(
        images.repeat(2, 1, 1, 1), timestep, class_labels=both
    ).sample.chunk(2)
    return guide(unconditional, conditional, scale)


def to_uint8(images: Tensor) -> np.ndarray:
    """(B, C, H, W) in [-1, 1] to uint8 (B, H, W, C), rounded."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()
