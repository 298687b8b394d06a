"""``diff``: two adapters beside each other, from their folders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from torch import Tensor

from ..adapters.config import SuperLoRAConfig
from ..adapters.fingerprint import fingerprints_agree
from ..adapters.measures import Closeness, as_matrix, compare, cosine, relative_distance
from ..adapters.reading import read_adapter_config
from .inspection import Inspection, inspect_adapter
from .updates import Updates, open_updates


class TargetComparison(NamedTuple):
    """Two updates of one target."""

    name: str
    shape: tuple[int, ...]
    closeness: Closeness

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        subspaces = self.closeness.subspaces
        told = (
            None if subspaces is None else {**subspaces._asdict(), "directions": list(subspaces.directions)}
        )
        return {
            "name": self.name,
            "shape": list(self.shape),
            **self.closeness._asdict(),
            "subspaces": told,
        }


class Joint(NamedTuple):
    """The joint updates of two adapters: one long vector each over the targets of both, 0 where one has no target."""

    one_norm: float
    two_norm: float
    distance: float
    relative_distance: float
    cosine: float | None
    left: float | None
    """Mean overlap over the targets of both; None where no two updates have directions."""
    right: float | None
    left_by_chance: float | None
    right_by_chance: float | None


@dataclass(frozen=True)
class Comparison:
    """Two adapters."""

    one: Inspection
    two: Inspection
    settings: dict[str, tuple[Any, Any]]
    """Those that differ; None for one that has no such setting."""
    same_base: bool | None
    """Whether both were trained on the same weights, by their fingerprints; None where one does not say."""
    targets: tuple[TargetComparison, ...]
    """Of both, in the module order of the first."""
    only_one: tuple[str, ...]
    only_two: tuple[str, ...]
    unlike: tuple[str, ...]
    """Targets whose weights have different shapes; they are counted as targets of one each."""
    joint: Joint | None
    """None if the updates of one could not be had, or hold numbers that are not finite."""
    problems: tuple[str, ...]
    """Why updates could not be had, or not all."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "one": self.one.as_dict(),
            "two": self.two.as_dict(),
            "settings": {name: list(values) for name, values in self.settings.items()},
            "same_base": self.same_base,
            "joint": None if self.joint is None else self.joint._asdict(),
            "targets": [target.as_dict() for target in self.targets],
            "only_one": list(self.only_one),
            "only_two": list(self.only_two),
            "unlike": list(self.unlike),
            "problems": list(self.problems),
        }


def compare_adapters(
    one: str | Path,
    two: str | Path,
    directions: int | None = None,
    base: str | None = None,
    on_target: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Compare two adapters.

    Args:
        one, two: adapter folders, or finished run folders.
        directions: how many leading singular directions are compared; see
            :func:`superlora_diffusion.adapters.measures.compare`.
        base: the base to read updates from that a folder alone does not tell, instead of the one that each names.
        on_target: called with (done, total) after each target of both.

    Raises:
        AdapterError: for a folder without an adapter, or one that is broken or incomplete.
        BaseModelError: for a ``base`` that cannot be loaded.
    """
    told = inspect_adapter(one), inspect_adapter(two)
    updates = open_updates(one, base, weights=False), open_updates(two, base, weights=False)
    mine, theirs = dict(updates[0].deltas), dict(updates[1].deltas)
    both = [name for name in updates[0].names if name in theirs and mine[name].shape == theirs[name].shape]
    compared = []
    for name in both:
        shape = tuple(mine[name].shape)
        compared.append(TargetComparison(name, shape, compare(mine.pop(name), theirs.pop(name), directions)))
        on_target(len(compared), len(both))
    return Comparison(
        *told,
        settings=differing_settings(*told),
        same_base=_same_base(*told),
        targets=tuple(compared),
        only_one=tuple(name for name in updates[0].names if name in mine and name not in theirs),
        only_two=tuple(name for name in updates[1].names if name in theirs and name not in mine),
        unlike=tuple(name for name in updates[0].names if name in mine and name in theirs),
        joint=None if not all(found.names for found in updates) else _join(compared, mine, theirs),
        problems=tuple(_problems(told, updates)),
    )


def _problems(told: tuple[Inspection, Inspection], updates: tuple[Updates, Updates]) -> Iterator[str]:
    for inspection, found in zip(told, updates, strict=True):
        if found.problem is not None:
            yield f"{inspection.folder}: its updates are read off its base: {found.problem}"
        if found.left_out:
            name, why = next(iter(found.left_out.items()))
            yield f"{inspection.folder}: {len(found.left_out):,} left out, such as {name}: {why}"


def differing_settings(one: Inspection, two: Inspection) -> dict[str, tuple[Any, Any]]:
    """{name: values of both} of the settings that differ; a SuperLoRA adapter's defaults count as its values."""
    first, second = _full(one), _full(two)
    names = dict.fromkeys([*one.settings, *two.settings])
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _full(found: Inspection) -> dict[str, Any]:
    if found.targets is None:  # a peer, which says all
        return found.settings
    return SuperLoRAConfig(**found.settings).model_dump(mode="json")


def _same_base(one: Inspection, two: Inspection) -> bool | None:
    prints = [read_adapter_config(found.folder)["base"].get("fingerprint") for found in (one, two)]
    try:
        return fingerprints_agree(*prints)
    except (KeyError, TypeError):
        return None


def _join(
    compared: list[TargetComparison], mine: dict[str, Tensor], theirs: dict[str, Tensor]
) -> Joint | None:
    """Over the targets of both, and those that one alone has."""
    alone = [[float(as_matrix(delta).norm()) for delta in deltas.values()] for deltas in (mine, theirs)]
    if not all(math.isfinite(norm) for norms in alone for norm in norms):
        return None
    found = [target.closeness for target in compared]
    if any(closeness.distance is None for closeness in found):
        return None
    one = math.hypot(*(closeness.one_norm for closeness in found), *alone[0])
    two = math.hypot(*(closeness.two_norm for closeness in found), *alone[1])
    distance = math.hypot(*(closeness.distance for closeness in found), *alone[0], *alone[1])
    product = math.fsum(closeness.product for closeness in found)
    overlaps = [closeness.subspaces for closeness in found if closeness.subspaces is not None]
    columns = zip(*(overlap[1:] for overlap in overlaps), strict=True)
    means = [fmean(column) for column in columns] or [None] * 4
    return Joint(one, two, distance, relative_distance(distance, one, two), cosine(product, one, two), *means)
