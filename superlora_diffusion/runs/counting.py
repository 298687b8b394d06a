"""What an adapter would adapt and train, counted on shapes alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..adapters.config import SuperLoRAConfig
from ..adapters.formula import Formula, write_formula
from ..adapters.naming import Target
from ..adapters.targets import find_targets
from ..models.config import BaseSettings
from ..models.shapes import network_on_meta
from .config import RunConfig
from .loading import load_config, packaged_configs


@dataclass(frozen=True)
class TargetList:
    """The weights that a setting adapts, on which network."""

    model: str
    network: str
    """The network's class."""
    patterns: tuple[str, ...]
    targets: tuple[Target, ...]

    @property
    def weights(self) -> int:
        """N."""
        return sum(target.size for target in self.targets)

    @property
    def shapes(self) -> dict[tuple[int, int], int]:
        """How many matrices of each (out, in), the most frequent first."""
        return dict(Counter((rows, columns) for _, rows, columns in self.targets).most_common())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        shapes = [{"shape": list(shape), "count": count} for shape, count in self.shapes.items()]
        return {
            "model": self.model,
            "network": self.network,
            "patterns": list(self.patterns),
            "matrices": len(self.targets),
            "weights": self.weights,
            "shapes": shapes,
        }


def base_named(name: str) -> BaseSettings:
    """The base that a command line names: as ``base.path`` would, a config.json, or the base of a packaged config."""
    if name in packaged_configs():
        return load_config(name).base
    return BaseSettings(path=name)


def targets_on(base: BaseSettings, adapter: SuperLoRAConfig, name: str | None = None) -> TargetList:
    """The targets of an adapter on a base, no weights read.

    Args:
        base: where.
        adapter: its settings; ``targets`` alone is looked at.
        name: what a fresh network is called.

    Raises:
        BaseModelError, AdapterError: for a base that is not there, a target that matches nothing.
    """
    network = network_on_meta(base)
    model = (name or "a fresh network") if base.build else str(base.path)
    return TargetList(model, type(network).__name__, adapter.targets, tuple(find_targets(network, adapter)))


def count_run(config: RunConfig, model: str | None = None) -> tuple[TargetList, Formula]:
    """The targets of a run's adapter and the formula of its count, on the run's base or on another model.

    Raises:
        BaseModelError, AdapterError, ConfigError: for a base, targets or settings that do not fit.
    """
    found = targets_on(base_named(model) if model else config.base, config.adapter, model)
    return found, write_formula(config.adapter, found.targets)
