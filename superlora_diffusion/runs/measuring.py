"""``inspect --measure``: how large the updates of an adapter are, against the weights they are added to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.measures import Size, measure, norm_ratio
from ..adapters.naming import ending_of, layer_name
from ..adapters.places import COLON
from .updates import open_updates

if TYPE_CHECKING:
    from .heatmap import HeatMap


@dataclass(frozen=True)
class Measured:
    """One target's update."""

    name: str
    layer: str
    """The module it is in, such as an attention; empty for a target at the top of the network."""
    kind: str
    """Which of its matrices it is, such as to_q; of a vector the parameter."""
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
    left_out: dict[str, str]
    """{what a peer trains that is no update of a weight: why}."""

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
        told["left_out"] = self.left_out
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
    """Measure every update of an adapter.

    Args:
        path: an adapter folder, or a finished run folder.
        base: the base to use instead of the one that is named; only then is its absence an error.
        on_target: called after each target.

    Raises:
        AdapterError: for a folder without an adapter, or one that is broken or incomplete.
        BaseModelError: for a ``base`` that cannot be loaded.
    """
    updates = open_updates(path, base)
    measured = {}
    for name, delta in updates.deltas:
        layer, kind = place_of(name, updates.patterns)
        norm = updates.weight_norms.get(name)
        measured[name] = Measured(name, layer, kind, tuple(delta.shape), measure(delta), norm)
        on_target()
    return Measures(
        tuple(measured[name] for name in updates.names), updates.base, updates.problem, dict(updates.left_out)
    )


def place_of(name: str, patterns: Sequence[str]) -> tuple[str, str]:
    """The module a target is in and what it is called there; what no pattern took is called by its own ending."""
    layer = layer_name(name, patterns)
    if layer == name:
        layer = layer_name(name, [ending_of(name)])
    return layer, name[len(layer) :].removeprefix(".").removeprefix(COLON)
