"""``inspect --measure``: how large the updates of an adapter are, against the weights they are added to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.deltas import iterate_deltas
from ..adapters.measures import Size, as_matrix, measure, norm_ratio
from ..adapters.naming import layer_name
from ..adapters.storage import read_stored
from ..errors import SuperLoRAError
from .inspection import find_adapter
from .source import open_source

if TYPE_CHECKING:
    from .heatmap import HeatMap


@dataclass(frozen=True)
class Measured:
    """One target's update."""

    name: str
    layer: str
    """The module it is in, such as an attention; empty for a target at the top of the network."""
    kind: str
    """Which of its matrices it is, such as to_q."""
    shape: tuple[int, ...]
    size: Size
    weight_norm: float | None
    """||W||_F; None without the base."""

    @property
    def ratio(self) -> float | None:
        """||dW||_F / ||W||_F."""
        if self.size.norm is None or self.weight_norm is None:
            return None
        return norm_ratio(self.size.norm, self.weight_norm)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        named = {"name": self.name, "layer": self.layer, "kind": self.kind, "shape": list(self.shape)}
        return {**named, **self.size._asdict(), "weight_norm": self.weight_norm, "ratio": self.ratio}


@dataclass(frozen=True)
class Measures:
    """The updates of all targets, in module order."""

    targets: tuple[Measured, ...]
    base: str | None
    """The base whose weights were read; None if it was not reachable."""
    problem: str | None
    """Why it was not."""

    @property
    def norm(self) -> float | None:
        """Of the joint update."""
        return _joint(target.size.norm for target in self.targets)

    @property
    def ratio(self) -> float | None:
        """Of the joint update to all adapted weights together."""
        weights = _joint(target.weight_norm for target in self.targets)
        return None if self.norm is None or weights is None else norm_ratio(self.norm, weights)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = {"base": self.base, "problem": self.problem, "norm": self.norm, "ratio": self.ratio}
        return {**told, "targets": [target.as_dict() for target in self.targets]}


def heat_map_of(measures: Measures, title: str) -> HeatMap:
    """||dW|| / ||W|| by layer and kind of matrix, or without the base ||dW||."""
    from .heatmap import HeatMap

    against = measures.base is not None
    told = {
        (target.layer, target.kind): target.ratio if against else target.size.norm
        for target in measures.targets
    }
    return HeatMap(
        title,
        "||dW|| / ||W|| (Frobenius)" if against else "||dW|| (Frobenius); the base was not read",
        tuple(dict.fromkeys(target.layer for target in measures.targets)),
        tuple(dict.fromkeys(target.kind for target in measures.targets)),
        {place: value for place, value in told.items() if value is not None},
    )


def _joint(norms: Iterable[float | None]) -> float | None:
    norms = list(norms)
    return None if None in norms else math.hypot(*norms)


def measure_adapter(
    path: str | Path, base: str | None = None, on_target: Callable[[], None] = lambda: None
) -> Measures:
    """Measure every update of a SuperLoRA adapter.

    Args:
        path: an adapter folder, or a finished run folder.
        base: the base to use instead of the one that is named; only then is its absence an error.
        on_target: called after each target.

    Raises:
        AdapterError: for a folder without a SuperLoRA adapter, or one that is broken or incomplete.
        BaseModelError: for a ``base`` that cannot be loaded.
    """
    folder = find_adapter(path)
    stored = read_stored(folder)
    norms, found, problem = _weight_norms(str(path), [target.name for target in stored.targets], base)
    sizes = {}
    for name, delta in iterate_deltas(folder):
        sizes[name] = measure(delta)
        on_target()
    measured = []
    for target, shape in zip(stored.targets, stored.shapes, strict=True):
        layer = layer_name(target.name, stored.config.targets)
        kind = target.name[len(layer) :].removeprefix(".")
        size = sizes[target.name]
        measured.append(Measured(target.name, layer, kind, shape, size, norms.get(target.name)))
    return Measures(tuple(measured), found, problem)


def _weight_norms(
    path: str, names: list[str], base: str | None
) -> tuple[dict[str, float], str | None, str | None]:
    """||W||_F by name and the base's name; or nothing, and why."""
    try:
        source = open_source(path, base)
    except SuperLoRAError as error:
        if base is not None:
            raise
        return {}, None, str(error)
    network = source.base.network
    norms = {name: float(as_matrix(network.get_submodule(name).weight).norm()) for name in names}
    return norms, source.base.name, None
