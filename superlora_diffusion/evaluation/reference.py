"""Rows of the real images, computed once and kept in the cache folder.

A file's name is made of the images' bytes and the extractor's hash (weights and preprocessing): whatever changes
makes another name, so an entry is never out of date. What is damaged is computed again.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import torch

from superlora_diffusion.data.cache import cache_root, cached_arrays
from superlora_diffusion.errors import DataError
from superlora_diffusion.evaluation.extractors import Extractor
from superlora_diffusion.evaluation.features import Features, stream_features

FOLDER = "features"


def reference_features(images: np.ndarray, labels: np.ndarray | None, extractor: Extractor) -> Features:
    """The rows of real images, uint8 (N, H, W, 1 or 3), from the cache if they are there.

    A cache that cannot be written costs time and a warning, never the scores.
    """

    def make() -> dict[str, np.ndarray]:
        found = stream_features([images], labels, extractor)
        return {"features": found.features.numpy(), "logits": found.logits.numpy()}

    try:
        arrays = cached_arrays(reference_path(images, extractor), make)
    except DataError as error:
        warnings.warn(f"the real images' features are not kept: {error}", stacklevel=2)
        arrays = make()
    return Features(torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["logits"]), labels)


def reference_path(images: np.ndarray, extractor: Extractor) -> Path:
    """Where their rows are kept. The kind of device is part of it: its arithmetic moves the last bits."""
    digest = hashlib.sha256(f"{images.shape} {extractor.hash} {extractor.device.type}".encode())
    digest.update(np.ascontiguousarray(images).data)
    return cache_root() / FOLDER / f"{extractor.name}-{extractor.hash}-{digest.hexdigest()[:24]}.npz"
