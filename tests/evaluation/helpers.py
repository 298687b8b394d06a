"""Small things the evaluation tests share."""

from __future__ import annotations

import numpy as np
import torch

from superlora_diffusion.evaluation.records import ScoreRecord


def channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def make_record(name: str = "lorta", parameters: int = 1060, **changes) -> ScoreRecord:
    """A record with plausible numbers; `changes` replaces fields."""
    fields = {
        "is_mean": 8.5,
        "is_std": 0.2,
        "is_stderr": 0.063,
        "is_real": 9.0,
        "is_real_std": 0.1,
        "is_distance": 0.5,
        "fid": 1.25,
        "accuracy": 0.91,
        "n": 1000,
        "splits": 10,
        "seed": 0,
        "extractor": "digits",
        "extractor_hash": "0123456789ab",
        "settings": {"sampler": "ddim", "steps": 20},
    }
    return ScoreRecord(name=name, parameters=parameters, **(fields | changes))
