"""What trains in a run, tensor by tensor, from the parameters that were really attached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..runs.config import RunConfig
from .setup import load_or_build_base, make_trainee


@dataclass(frozen=True)
class TensorsOfAShape:
    """Trained tensors of one shape."""

    shape: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def parameters(self) -> int:
        return len(self.names) * math.prod(self.shape)


@dataclass(frozen=True)
class Inventory:
    """What a run's optimiser holds."""

    what: str
    """What trains, in words."""
    notes: tuple[str, ...]
    """What a user should know of how it was attached, a line each."""
    shapes: tuple[TensorsOfAShape, ...]
    head_parameters: int = 0
    """Of a classifier's head that trains beside them."""

    @property
    def parameters(self) -> int:
        """How many numbers train, a head's not counted."""
        return sum(found.parameters for found in self.shapes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        tensors = [
            {"shape": list(found.shape), "count": len(found.names), "parameters": found.parameters,
             "names": list(found.names)} for found in self.shapes
        ]  # fmt: skip
        return {
            "trains": self.what,
            "notes": list(self.notes),
            "parameters": self.parameters,
            "head_parameters": self.head_parameters,
            "tensors": tensors,
        }


def list_trained(config: RunConfig) -> Inventory:
    """The tensors that the optimiser of a run would hold, those of one shape together, the most numbers first.

    Raises:
        BaseModelError, AdapterError, ConfigError: as training would.
    """
    trainee = make_trainee(config, load_or_build_base(config))
    names: dict[tuple[int, ...], list[str]] = {}
    for name, parameter in trainee.parameters.items():
        if name in trainee.head:
            continue
        names.setdefault(tuple(parameter.shape), []).append(name)
    shapes = [TensorsOfAShape(shape, tuple(found)) for shape, found in names.items()]
    shapes.sort(key=lambda found: -found.parameters)
    return Inventory(trainee.what, tuple(trainee.notes), tuple(shapes), trainee.head_count)
