"""How long a sweep will take: a few real steps and network calls on this machine, times what is planned."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..devices import resolve_device
from ..models.base import Base
from ..models.classifier import Classifier
from ..models.conditioning import move
from ..models.shapes import network_family
from ..runs.config import RunConfig
from ..training.setup import load_or_build_base
from .config import SweepConfig
from .jobs import Job

_CLASSES = 10  # columns of a preview, at most
_TRIES = 4  # a race tries the default, its neighbours and, as a rule, one more


def estimate_seconds(sweep: SweepConfig, jobs: Sequence[Job], device: str, threads: int) -> float:
    """Seconds of work in the jobs, in one process: steps and network calls, each timed here and now.

    Every base and batch size is timed once. Left out is what is small or unknown: what an adapter adds to a step,
    the start of worker processes, the base's own scores, the extractor, work that a stopped job has done already.
    """
    speeds: dict[tuple, tuple[float, float]] = {}
    total = 0.0
    with _threads(threads):
        for job in jobs:
            config = RunConfig(**job.config)
            key = (config.base.model_dump_json(), config.train.batch_size, config.sampling.batch_size)
            if key not in speeds:
                speeds[key] = measure_speed(config, load_or_build_base(config), resolve_device(device))
            total += cost(job, config, sweep.score, *speeds[key])
    return total


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for the block; afterwards as before, since results depend on it in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cost(job: Job, config: RunConfig, score: bool, step: float, image_call: float) -> float:
    """Seconds of one job: steps with their accumulation, validations, previews, and the drawing of scored images.

    Args:
        step: seconds of one batch, forward and backward.
        image_call: seconds of a network call, for each image.
    """
    batch = step * config.train.gradient_accumulation
    validation = image_call * config.validation.images
    if job.kind == "race":
        return min(_TRIES, job.search.max_tries) * (batch * job.search.steps + validation) + validation
    validations = _times(config.train.steps, config.validation.every)
    trained = batch * config.train.steps + validation * validations
    if config.classifies:  # the test split passes the network once, in a moment
        return trained
    drawn_by = config.sampling.filled(network_family(config.base).sampling)
    calls = drawn_by.steps * (2 if drawn_by.guidance_scale != 1 else 1)
    drawn = config.evaluation.images if score else 0
    if config.preview.every is not None:
        drawn += _times(config.train.steps, config.preview.every) * config.preview.per_class * _CLASSES
    return trained + image_call * calls * drawn


def _times(steps: int, every: int) -> int:
    """How often something is done at every so many steps and at the last."""
    return -(-steps // every)


def measure_speed(config: RunConfig, base: Base | Classifier, device: torch.device) -> tuple[float, float]:
    """(seconds of a training step, seconds of a network call for each image), the best of three."""
    network = base.network.to(device)
    network.requires_grad_(True)
    step = min(
        _timed(lambda: _call(network, base, config.train.batch_size, device).square().mean().backward())
        for _ in range(3)
    )
    count = min(config.sampling.batch_size, config.evaluation.images)
    with torch.no_grad():
        call = min(_timed(lambda: _call(network, base, count, device)) for _ in range(3))
    network.zero_grad(set_to_none=True)
    return step, call / count


def _call(
    network: torch.nn.Module, base: Base | Classifier, count: int, device: torch.device
) -> torch.Tensor:
    if isinstance(base, Classifier):
        return base.logits(torch.zeros(count, base.channels, base.size, base.size, device=device), network)
    shape = base.family.shape(base, base.size, base.size)
    noisy = torch.zeros(count, *shape, device=device, dtype=base.dtype)
    asked = [""] * count if base.takes_text else [0] * count
    condition = move(base.condition(asked, device), device, base.dtype)
    return base.predict(noisy, torch.zeros(count, dtype=torch.long, device=device), condition, network)


def _timed(work) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
