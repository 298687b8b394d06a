"""Which settings fit a parameter budget, from closed forms alone. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .config import SuperLoRAConfig
from .formula import Formula, write_formula
from .naming import Target, as_targets
from .plan import GroupPlan, plan_alike_groups
from .space import FAMILIES, Fields, check_families, settings_of

_Kinds = list[tuple[GroupPlan, Sequence[int]]]


@dataclass(frozen=True)
class Choice:
    """A setting and what it costs."""

    family: str
    fields: Fields
    """What a user would write, the variant's own values left out."""
    config: SuperLoRAConfig
    count: int
    """How many numbers train."""
    targets: tuple[Target, ...]

    @property
    def formula(self) -> Formula:
        return write_formula(self.config, self.targets)

    @property
    def overrides(self) -> list[str]:
        """For the command line: ``["adapter.variant=lorta", "adapter.groups=12", "adapter.rank=5"]``."""
        return [f"adapter.{name}={_as_yaml(value)}" for name, value in self.fields.items()]

    @property
    def text(self) -> str:
        """For people: ``lorta, groups 12, rank 5``."""
        rest = (f"{name} {_as_yaml(value)}" for name, value in self.fields.items() if name != "variant")
        words = ", ".join([self.fields["variant"], *rest]).replace(" true", "").replace("projection ", "")
        return words.replace("_", " ") if self.fields["variant"] != "group_lora" else words


@dataclass(frozen=True)
class Listing:
    """The settings that fit, best use of the budget first."""

    budget: int
    choices: tuple[Choice, ...]
    examined: int
    """How many different settings were counted."""

    @property
    def best_of_families(self) -> dict[str, int]:
        """The largest count of each family that has a setting in the list."""
        best: dict[str, int] = {}
        for choice in self.choices:
            best.setdefault(choice.family, choice.count)
        return best


def list_settings(
    budget: int,
    targets: Iterable[Sequence],
    families: Iterable[str] = FAMILIES,
    patterns: tuple[str, ...] = ("to_q", "to_v"),
    exclude: tuple[str, ...] = (),
) -> Listing:
    """List the settings of at most ``budget`` trained numbers, closest to it first.

    Of equal counts the setting with fewer fields to write comes first, then the families' order. Left out are
    settings that the config or the targets refuse, that train as many numbers as the targets (or as a tensor they
    factor) hold, and those that are another setting under another name.

    Args:
        budget: how many numbers may train.
        targets: (name, out_features, in_features) triples, in order.
        families: names out of :data:`space.FAMILIES`.
        patterns, exclude: how the targets were found, for the settings' configs.

    Raises:
        ConfigError: for a budget below 1, an unknown family, or if nothing fits: the smallest there is is told.
    """
    if budget < 1:
        raise ConfigError(faults=[("budget", f"got {budget}: at least one number must train; try 5000.")])
    families = check_families(families)
    targets = as_targets(targets)
    found = list(_sensible(targets, families, {"targets": patterns, "exclude": exclude}))
    fitting = [choice for choice in found if choice.count <= budget]
    if not fitting:
        raise ConfigError(faults=[("budget", _nothing_fits(budget, families, found))])
    return Listing(budget, tuple(sorted(fitting, key=_best_first)), len(found))


def _best_first(choice: Choice) -> tuple:
    rank = choice.config.rank if isinstance(choice.config.rank, int) else 0
    return -choice.count, len(choice.fields), FAMILIES.index(choice.family), rank


def _sensible(targets: tuple[Target, ...], families: Sequence[str], chosen_by: Fields) -> Iterator[Choice]:
    """The settings of the families that are legal, sensible and different from each other."""
    seen: set[Hashable] = set()
    weights = sum(target.size for target in targets)
    for family in families:
        for fields in settings_of(family):
            try:
                config = SuperLoRAConfig(**chosen_by, **fields)
                kinds = plan_alike_groups(config, targets)
            except ConfigError:  # this network has too few weights for so many groups
                continue
            count = sum(len(indices) * plan.count for plan, indices in kinds)
            if (count >= weights and family != "dense") or any(_wasteful(plan) for plan, _ in kinds):
                continue
            same = _identity(config, kinds)
            if same not in seen:
                seen.add(same)
                yield Choice(family, _written(fields), config, count, targets)


def _wasteful(plan: GroupPlan) -> bool:
    """Whether a factored tensor of the group trains as many numbers as it has entries."""
    factored = (part for part in plan.parts if part.factors)
    return any(sum(tensor.count for tensor in part.tensors) >= math.prod(part.sides) for part in factored)


def _identity(config: SuperLoRAConfig, kinds: _Kinds) -> Hashable:
    """Equal for settings that generate the same updates from the same numbers, however they are written."""
    reordered = config.groups == "shape" and len(kinds) > 1
    return reordered, config.projection, tuple((plan, tuple(indices)) for plan, indices in kinds)


def _written(fields: Fields) -> Fields:
    """Without what the variant says itself; the rank always stays."""
    variant = {"variant": fields["variant"]}
    own = SuperLoRAConfig(**variant)
    return variant | {
        name: value for name, value in fields.items() if name == "rank" or getattr(own, name) != value
    }


def _nothing_fits(budget: int, families: Sequence[str], found: Sequence[Choice]) -> str:
    of = "" if set(families) == set(FAMILIES) else f" of {', '.join(families)}"
    if not found:
        return f"no setting{of} trains fewer numbers than the targets hold; choose other families or targets."
    least = min(found, key=lambda choice: choice.count)
    return (
        f"got {budget}: no setting{of} is that small. The smallest trains {least.count:,}: "
        f"{' '.join(least.overrides)}"
    )


def _as_yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
