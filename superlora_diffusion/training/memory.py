"""Out of memory, in words that help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import RunError
from ..runs.config import RunConfig


@contextmanager
def explain_out_of_memory(config: RunConfig) -> Iterator[None]:
    """Turn an out-of-memory error of the block into a RunError naming the settings that help."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        size, accumulation = config.train.batch_size, config.train.gradient_accumulation
        raise RunError(
            f"out of memory with train.batch_size {size} and train.gradient_accumulation {accumulation}. "
            "Halve train.batch_size and double train.gradient_accumulation (as many images a step), "
            "or set train.gradient_checkpointing=true, in another run folder (output=...). "
            f"The system said: {(str(error) or repr(error)).splitlines()[0]}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return "not enough memory" in text or "can't allocate memory" in text or "out of memory" in text
