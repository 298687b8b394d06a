"""What trains in a run, tensor by tensor, from the parameters that were really attached."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


def list_trained(config: RunConfig) -> tuple[TensorsOfAShape, ...]:
    """The tensors that the optimiser of a run holds, those of one shape together, in the order they come.

    Raises:
        BaseModelError, AdapterError, ConfigError: as training would.
    """
    names: dict[tuple[int, ...], list[str]] = {}
    for name, parameter in make_trainee(config, load_or_build_base(config)).parameters.items():
        names.setdefault(tuple(parameter.shape), []).append(name)
    return tuple(TensorsOfAShape(shape, tuple(found)) for shape, found in names.items())
