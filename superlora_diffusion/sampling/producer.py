"""The one producer of images that ``sample``, the previews of training and ``eval-is`` all use.

Image i depends on (seed, i) and its class alone: each image draws from a generator of its own on the CPU,
so neither the batch size nor the device nor the number of images changes it (beyond float noise).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ..errors import SamplingError
from ..models.base import Base
from ..models.conditioning import Condition, guide, join_rows, move, repeat_row
from ..models.execution import speed_up
from ..models.families.family import Asked
from ..randomness import generator_for
from .config import SamplingSettings
from .schedulers import make_scheduler


def image_generator(seed: int, index: int) -> torch.Generator:
    """The CPU generator of image ``index`` under ``seed``."""
    return generator_for("image", seed, index)


def generate(
    base: Base,
    asked: Asked | np.ndarray,
    count: int,
    settings: SamplingSettings,
    seed: int = 0,
    first: int = 0,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Draw images from a base; an adapter attached to its network takes part.

    Args:
        base: where the network and its noise schedule come from.
        asked: (count,) class indices, or as many prompts, or None for an unconditional base.
        count: number of images.
        settings: sampler, steps, guidance scale, batch size; the base family's where they say nothing.
        seed: with the image's index, decides its noise.
        first: index of the first image, to go on where another call stopped.
        on_batch: called with the number of images of each finished batch.

    Returns:
        uint8 array (count, height, width, channels).

    Raises:
        SamplingError: if classes or prompts are missing, out of range or given to an unconditional base; for a size
            that the network cannot draw.
        BaseModelError: if guidance is asked of a base without a null class.
    """
    batches = []
    for batch in generate_batches(base, asked, count, settings, seed, first):
        batches.append(batch)
        on_batch(len(batch))
    return np.concatenate(batches)


def generate_batches(
    base: Base,
    asked: Asked | np.ndarray,
    count: int,
    settings: SamplingSettings,
    seed: int = 0,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """The images of :func:`generate` one batch at a time, so that nobody needs to hold them all.

    Arguments and errors (raised at once) are those of :func:`generate`. The network is in eval mode until the
    last batch was taken or the iterator is closed.
    """
    settings = settings_for(base, settings)
    wanted = check_asked(base, asked, count)
    if wanted is not None and settings.guidance_scale != 1:
        base.require_null_class(f"guidance scale {settings.guidance_scale:g}")
    return _batches(base, wanted, count, settings, seed, first)


def run_settings_for(
    base: Base, settings: SamplingSettings, resolution: int | None, given: Container[str] = ()
) -> SamplingSettings:
    """:func:`settings_for` of a run's config, which asks for guidance whether or not the base can be guided.

    Args:
        base: what is drawn from.
        settings: the run's, perhaps with values that were given beside it.
        resolution: the run's.
        given: names of these values: guidance that was asked for by name is not left out.
    """
    if not base.has_null and "guidance_scale" not in given:
        settings = settings.model_copy(update={"guidance_scale": 1.0})
    return settings_for(base, settings, resolution)


def settings_for(base: Base, settings: SamplingSettings, resolution: int | None = None) -> SamplingSettings:
    """Sampling settings with the base family's values where they say nothing.

    Args:
        base: what is drawn from.
        settings: what was said.
        resolution: side of the images where no height or width is given; the base's own for None.

    Raises:
        SamplingError: for a size that the network cannot draw.
    """
    defaults = {**base.family.sampling, "height": resolution, "width": resolution}
    settings = settings.filled(defaults, base.has_null)
    multiple = base.family.multiple(base)
    for name in ("height", "width"):
        side = getattr(settings, name)
        if side is not None and side % multiple:
            below = max(side // multiple, 1) * multiple
            raise SamplingError(
                f"sampling.{name} is {side}; base {base.name!r} draws multiples of {multiple}, such as {below}."
            )
    height, width = settings.height or base.size, settings.width or base.size
    fault = base.family.size_fault(base, height, width)
    if fault is not None:
        raise SamplingError(f"images of {height} x {width} px were asked for; base {base.name!r} {fault}.")
    return settings


def _batches(
    base: Base, wanted: list | None, count: int, settings: SamplingSettings, seed: int, first: int
) -> Iterator[np.ndarray]:
    was_training = base.network.training
    speed_up(base.network, settings.channels_last, settings.compile)
    base.network.eval()
    try:
        guided = wanted is not None and settings.guidance_scale != 1
        null = base.encoded(base.null_condition(base.device, settings.negative_prompt)) if guided else None
        for start in range(0, count, settings.batch_size):
            stop = min(start + settings.batch_size, count)
            generators = [image_generator(seed, first + i) for i in range(start, stop)]
            asked = None if wanted is None else wanted[start:stop]
            condition = base.encoded(base.condition(asked, base.device))
            yield to_uint8(_denoise(base, condition, null, generators, settings))
    finally:
        base.network.train(was_training)


def asked_for(base: Base, names: Sequence[str], indices: np.ndarray) -> Asked | np.ndarray:
    """What images are asked to be.

    Args:
        base: what is drawn from.
        names: its classes, or prompts; empty for an unconditional base.
        indices: (N,) which of them each image is.
    """
    if base.takes_text:
        return [names[index] for index in indices]
    return indices if names else None


def check_asked(base: Base, asked: Asked | np.ndarray, count: int) -> list[int] | list[str] | None:
    """What ``count`` images are asked to be, if the base can be asked for it.

    Raises:
        SamplingError: if it cannot.
    """
    if count < 1:
        raise SamplingError(f"{count} images were asked for; at least 1 is accepted.")
    if base.classes is None and not base.takes_text:
        if asked is not None:
            raise SamplingError(f"base {base.name!r} is unconditional: it has no classes to ask for.")
        return None
    kind = "prompt" if base.takes_text else "class"
    if asked is None or len(asked) != count:
        came = "none" if asked is None else str(len(asked))
        raise SamplingError(f"{count} images need one {kind} each, but {came} were given.")
    if base.takes_text:
        return [str(prompt) for prompt in asked]
    wrong = sorted({int(c) for c in asked if not 0 <= c < base.classes})
    if wrong:
        raise SamplingError(f"classes {wrong} are unknown; base {base.name!r} has 0 to {base.classes - 1}.")
    return [int(c) for c in asked]


@torch.no_grad()
def _denoise(
    base: Base,
    condition: Condition,
    null: Condition | None,
    generators: list[torch.Generator],
    settings: SamplingSettings,
) -> Tensor:
    """One batch of images (B, C, H, W) in [-1, 1]."""
    scheduler = make_scheduler(settings.sampler, base.scheduler, settings.steps)
    is_flow = isinstance(
        scheduler, FlowMatchEulerDiscreteScheduler
    )  # noise and images are of one scale there
    device, dtype = base.device, base.dtype
    shape = base.family.shape(base, settings.height or base.size, settings.width or base.size)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    drawn = noise.to(device) * (1.0 if is_flow else scheduler.init_noise_sigma)
    condition, both = _both_halves(condition, null, len(generators), device, dtype)
    extra = {"generator": generators} if settings.sampler == "ddpm" else {}
    for timestep in scheduler.timesteps:
        model_input = drawn if is_flow else scheduler.scale_model_input(drawn, timestep)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            prediction = _predict(base, model_input.to(dtype), timestep.to(device), condition, both, settings)
        drawn = scheduler.step(prediction.float(), timestep, drawn, **extra).prev_sample
    return base.family.decode(base, drawn)


def _both_halves(
    condition: Condition, null: Condition | None, count: int, device: torch.device, dtype: torch.dtype
) -> tuple[Condition, Condition | None]:
    """The condition of each image, and where guidance is asked for those of nothing and of each image as one batch."""
    condition = move(condition, device, dtype)
    if null is None:
        return condition, None
    return condition, join_rows(repeat_row(move(null, device, dtype), count), condition)


def _predict(
    base: Base,
    noisy: Tensor,
    timestep: Tensor,
    condition: Condition,
    both: Condition | None,
    settings: SamplingSettings,
) -> Tensor:
    """The network's prediction, guided: both halves in one batch, and no second half at scale 1."""
    if both is None:
        return base.predict(noisy, timestep, condition)
    unconditional, conditional = base.predict(noisy.repeat(2, 1, 1, 1), timestep, both).chunk(2)
    return guide(unconditional, conditional, settings.guidance_scale)


def to_uint8(images: Tensor) -> np.ndarray:
    """(B, C, H, W) in [-1, 1] to uint8 (B, H, W, C), rounded."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()
