"""Embeddings of captions, encoded once and kept in the cache folder.

A caption's file is named after the text encoders and the caption, so an entry is never out of date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ..data.cache import cache_root, cached_file, is_usable
from .base import Base
from .conditioning import Condition

FOLDER = "embeddings"
_AT_ONCE = 16


class Embeddings:
    """What the network gets for captions, read from the cache as they are asked for."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self._paths = paths
        self._read = lru_cache(maxsize=1024)(load_file)

    def rows(self, captions: Sequence[str]) -> Condition:
        """The condition of a batch of captions, on the CPU."""
        found = [self._read(self._paths[caption]) for caption in captions]
        return {name: torch.stack([row[name] for row in found]) for name in found[0]}


def cached_embeddings(
    base: Base,
    captions: Sequence[str],
    device: torch.device,
    on_captions: Callable[[int], None] = lambda done: None,
) -> Embeddings:
    """The embeddings of captions; what is not in the cache is encoded, each different caption once.

    Args:
        base: one that takes text.
        captions: in any order, with repetitions.
        device: where to encode.
        on_captions: called with the number of captions of each finished batch.

    Raises:
        DataError: the cache folder cannot be written.
    """
    family = base.family
    folder = cache_root() / FOLDER / f"{family.name}-{base.parts.digest(*family.text_parts)}"
    paths = {caption: folder / f"{_name(caption)}.safetensors" for caption in dict.fromkeys(captions)}
    missing = [caption for caption, path in paths.items() if not is_usable(path, _is_whole)]
    for start in range(0, len(missing), _AT_ONCE):
        batch = missing[start : start + _AT_ONCE]
        _encode(base, batch, paths, device)
        on_captions(len(batch))
    return Embeddings(paths)


def _encode(base: Base, captions: list[str], paths: dict[str, Path], device: torch.device) -> None:
    encoded = base.family.encode_prompts(base, captions, device)
    for index, caption in enumerate(captions):
        row = {name: values[index].cpu().contiguous() for name, values in encoded.items()}
        cached_file(paths[caption], lambda partial, row=row: save_file(row, partial), _is_whole)


def _name(caption: str) -> str:
    return hashlib.sha256(caption.encode()).hexdigest()[:32]


def _is_whole(path: Path) -> bool:
    with safe_open(path, framework="pt") as file:
        return bool(list(file.keys()))
