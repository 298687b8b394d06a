"""What a run would train, counted on shapes alone, and what could be trained within a budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from diffusers import UNet2DModel

from ..adapters.budget import Listing, list_settings
from ..adapters.config import SuperLoRAConfig
from ..adapters.formula import Formula, write_formula
from ..adapters.naming import Target
from ..adapters.targets import find_targets
from ..errors import ConfigError
from ..models.config import EMBEDDED_BASE, BaseSettings
from ..models.shapes import network_on_meta
from .config import RunConfig
from .loading import load_config, packaged_configs

# What an override may say of an adapter whose setting is looked for: nothing that the list varies.
_KEPT = ("targets", "seed", "scale", "init_std")


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


def targets_on(base: BaseSettings, adapter: SuperLoRAConfig) -> TargetList:
    """The targets of an adapter on a base, no weights read.

    Raises:
        BaseModelError, AdapterError: for a base that is not there, a target that matches nothing.
    """
    network = network_on_meta(base)
    name = "a fresh network" if base.build else str(base.path)
    return TargetList(name, type(network).__name__, adapter.targets, tuple(find_targets(network, adapter)))


def count_run(config: RunConfig, base: BaseSettings | None = None) -> tuple[TargetList, Formula]:
    """The targets of a run's adapter and the formula of its count, on the run's base or on another."""
    found = targets_on(base or config.base, config.adapter)
    return found, write_formula(config.adapter, found.targets)


def list_for(base: BaseSettings, budget: int, families: list[str] | None, **given: Any):
    """The settings that fit ``budget`` on a base: (targets, listing).

    Args:
        base: where they are counted.
        budget: how many numbers may train.
        families: names of families of methods; None for all.
        **given: fields of every setting, such as ``targets``.
    """
    found = targets_on(base, SuperLoRAConfig(**given))
    options = {} if families is None else {"families": families}
    return found, list_settings(budget, found.targets, **options, **given)


def kept_fields(config: RunConfig, overrides: list[str]) -> dict[str, Any]:
    """The fields of a config's adapter that a listed setting leaves as they are: its targets.

    Raises:
        ConfigError: for an override of what the list varies.
    """
    for text in overrides:
        path = text.partition("=")[0].strip()
        if path.startswith("adapter.") and path.removeprefix("adapter.") not in _KEPT:
            fault = f"got {text!r} with --budget, which looks for it; leave it out, or narrow by --families."
            raise ConfigError(faults=[(path, fault)])
    return {"targets": config.adapter.targets}


def is_trainable(base: BaseSettings, found: TargetList) -> bool:
    """Whether ``train`` takes this base for an adapter."""
    return base.build is None and found.network == UNet2DModel.__name__ and not str(base.path).endswith(".json")
