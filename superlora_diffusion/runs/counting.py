"""What an adapter would adapt and train, counted on shapes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..adapters.config import SuperLoRAConfig
from ..adapters.formula import Formula, write_formula
from ..adapters.naming import Target, count_in_words
from ..adapters.places import is_vector
from ..adapters.targets import adaptable_places, choose_targets, describe
from ..models.config import BaseSettings
from ..models.shapes import network_on_meta
from .config import RunConfig
from .loading import load_config, packaged_configs


class PatternCount(NamedTuple):
    """What one pattern takes, or of what was taken leaves out; patterns may overlap."""

    pattern: str
    matrices: int
    """How many targets, vectors among them."""
    weights: int


@dataclass(frozen=True)
class TargetList:
    """The weights that a setting adapts, on which network."""

    model: str
    network: str
    """The network's class."""
    patterns: tuple[str, ...]
    targets: tuple[Target, ...]
    exclude: tuple[str, ...] = ()
    taken: tuple[PatternCount, ...] = ()
    """One for each of ``patterns``."""
    excluded: tuple[PatternCount, ...] = ()
    """One for each of ``exclude``."""

    @property
    def weights(self) -> int:
        """N."""
        return sum(target.size for target in self.targets)

    @property
    def counted(self) -> str:
        """How many they are, in words."""
        return count_in_words(len(self.targets), sum(is_vector(target.name) for target in self.targets))

    @property
    def shapes(self) -> dict[tuple[int, int], int]:
        """How many targets of each (out, in), the most frequent first."""
        return dict(Counter((rows, columns) for _, rows, columns in self.targets).most_common())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        shapes = [{"shape": list(shape), "count": count} for shape, count in self.shapes.items()]
        return {
            "model": self.model,
            "network": self.network,
            "patterns": list(self.patterns),
            "exclude": list(self.exclude),
            "matrices": len(self.targets),
            "weights": self.weights,
            "shapes": shapes,
        }

    def details(self) -> dict[str, Any]:
        """For JSON, more of it: what each pattern takes, and every target."""
        rows = [{"name": name, "shape": [rows, columns]} for name, rows, columns in self.targets]
        taken, excluded = ([count._asdict() for count in each] for each in (self.taken, self.excluded))
        return {**self.as_dict(), "taken": taken, "excluded": excluded, "targets": rows}


def base_named(name: str) -> BaseSettings:
    """The base that a command line names: as ``base.path`` would, a config.json, or the base of a packaged config."""
    if name in packaged_configs():
        return load_config(name).base
    return BaseSettings(path=name)


def targets_on(base: BaseSettings, adapter: SuperLoRAConfig, name: str | None = None) -> TargetList:
    """The targets of an adapter on a base, no weights read.

    Args:
        base: where.
        adapter: its settings; ``targets`` and ``exclude`` alone are looked at.
        name: what a fresh network is called.

    Raises:
        BaseModelError, AdapterError: for a base that is not there, a target that matches nothing.
    """
    network = network_on_meta(base)
    model = (name or "a fresh network") if base.build else str(base.path)
    places = {name: describe(name, layer) for name, layer in adaptable_places(network).items()}
    selection = choose_targets(network, adapter)
    return TargetList(
        model=model,
        network=type(network).__name__,
        patterns=adapter.targets,
        targets=tuple(places[name] for name in selection.names),
        exclude=adapter.exclude,
        taken=_counts(selection.taken, places),
        excluded=_counts(selection.excluded, places),
    )


def _counts(found: dict[str, tuple[str, ...]], places: dict[str, Target]) -> tuple[PatternCount, ...]:
    return tuple(
        PatternCount(pattern, len(names), sum(places[name].size for name in names))
        for pattern, names in found.items()
    )


def list_targets(model: str, patterns: Sequence[str] = (), exclude: Sequence[str] = ()) -> TargetList:
    """What patterns take of a model, no weights read.

    Args:
        model: as :func:`base_named` takes it.
        patterns: what to take; by default as an adapter does.
        exclude: what of it to leave out.

    Raises:
        ConfigError, BaseModelError, AdapterError: for a malformed pattern, a model that is not there, a pattern that
            takes or excludes nothing.
    """
    taken = {"targets": tuple(patterns)} if patterns else {}
    return targets_on(base_named(model), SuperLoRAConfig(**taken, exclude=tuple(exclude)), model)


def count_run(config: RunConfig, model: str | None = None) -> tuple[TargetList, Formula]:
    """The targets of a run's adapter and the formula of its count, on the run's base or on another model.

    Raises:
        BaseModelError, AdapterError, ConfigError: for a base, targets or settings that do not fit.
    """
    found = targets_on(base_named(model) if model else config.base, config.adapter, model)
    return found, write_formula(config.adapter, found.targets)
