"""The images of a run: both splits as the base expects them, and what is told of them beside the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..data.config import DataConfig
from ..data.records import SPLITS, ImageSet, Split
from ..errors import ConfigError
from ..files import write_json
from ..models.base import Base
from ..models.images import load_for
from ..runs.config import RunConfig


@dataclass
class Data:
    """Prepared images, uint8; one set a shape (several with ``data.buckets`` alone)."""

    train: list[ImageSet]
    test: list[ImageSet]

    @property
    def content_hash(self) -> str:
        """Of the training images."""
        hashes = [part.content_hash for part in self.train]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def load_data(config: RunConfig, base: Base) -> Data:
    """Both splits, as the base expects them."""
    train, test = (load_split(config, base, split) for split in SPLITS)
    return Data(train, test)


def load_split(config: RunConfig, base: Base, split: Split) -> list[ImageSet]:
    """One split as the base expects it, a set a shape.

    Raises:
        ConfigError: for buckets or a resolution that the base cannot take.
        DataError: as reading would.
    """
    if faults := [(f"data.{name}", text) for name, text in _faults(config.data, base)]:
        raise ConfigError(faults=faults)
    sets = load_for(base, config.data, split, base.channels)
    _refuse_shapes(base, sets)
    return sets


def _faults(data: DataConfig, base: Base) -> Iterator[tuple[str, str]]:
    """Settings that the base cannot take, each with what is said of it."""
    if data.buckets and not base.takes_text:
        yield "buckets", f"got true, but base {base.name!r} takes squares of {base.size} px alone."
    size, multiple = data.resolution or base.size, base.family.multiple(base)
    if not base.family.is_latent and size != base.size:
        yield "resolution", f"got {size}; base {base.name!r} works on images of {base.size} px alone."
    if base.family.is_latent and size % multiple:
        yield "resolution", f"got {size}; base {base.name!r} takes multiples of {multiple}."


def _refuse_shapes(base: Base, sets: list[ImageSet]) -> None:
    for part in sets:
        height, width = part.images.shape[1:3]
        fault = base.family.size_fault(base, height, width)
        if fault is not None:
            text = f"gives images of {height} x {width} px, and base {base.name!r} {fault}; take less."
            raise ConfigError(faults=[("data.resolution", text)])


def describe_data(path: Path, data: Data) -> None:
    """Write beside the run which images it saw and what was done to them."""
    described = {sets[0].split: _describe(sets) for sets in (data.train, data.test)}
    write_json(path, json.loads(json.dumps(described, default=str)))


def _describe(sets: list[ImageSet]) -> dict:
    parts = [
        {
            "name": part.name,
            "images": len(part),
            "content_hash": part.content_hash,
            "preparation": part.preparation,
        }
        for part in sets
    ]
    return parts[0] if len(parts) == 1 else {"buckets": parts}
