"""How many times fewer parameters: settings compared by their means over seeds. Pure; imports nothing heavy.

No worse means no worse: a tie passes, there is no tolerance, and what is missing or not a number never passes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MEASURES = ("val_loss", "is_distance", "fid")
"""Lower is better in each."""
SCORES = (*MEASURES, "kid", "accuracy")


@dataclass(frozen=True)
class Setting:
    """A row of the table."""

    name: str
    family: str
    parameters: int
    rates: tuple[float, ...]
    seeds: frozenset[int]
    means: Mapping[str, float | None]
    """By the names in SCORES; None where a seed has none."""
    deviations: Mapping[str, float | None] = field(default_factory=dict)
    """Sample standard deviations over the seeds; None for one seed."""


@dataclass(frozen=True)
class Reference:
    """What a setting has to reach: the values of a setting, or what a share of a gain leaves."""

    name: str
    parameters: int
    seeds: frozenset[int]
    values: Mapping[str, float | None]
    measures: tuple[str, ...] = MEASURES
    """Those that are judged together."""


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[Setting]:
    """Settings by family, then parameters, then name, with means and sample deviations over seeds.

    A score that one seed lacks has no mean: the others' would be that of fewer seeds than the row says.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["setting"], []).append(row)
    found = [_setting(name, group) for name, group in groups.items()]
    return sorted(found, key=lambda one: (one.family, one.parameters, one.name))


def _setting(name: str, group: Sequence[Mapping[str, Any]]) -> Setting:
    values = {score: [row[score] for row in group] for score in SCORES}
    whole = {score: known for score, known in values.items() if all(map(known_number, known))}
    return Setting(
        name=name,
        family=group[0]["family"],
        parameters=group[0]["parameters"],
        rates=tuple(sorted({row["lr"] for row in group if row["lr"] is not None})),
        seeds=frozenset(row["seed"] for row in group),
        means={score: statistics.fmean(whole[score]) if score in whole else None for score in SCORES},
        deviations={
            score: statistics.stdev(whole[score]) if score in whole and len(group) > 1 else None
            for score in SCORES
        },
    )


def known_number(value: float | None) -> bool:
    """Whether it can be compared: there, and finite."""
    return value is not None and math.isfinite(value)


def failing(
    values: Mapping[str, float | None], reference: Mapping[str, float | None], measures: Sequence[str]
) -> tuple[str, ...]:
    """Which measures are worse than the reference's, or cannot be compared since either is missing or not finite."""
    return tuple(
        name
        for name in measures
        if not (
            known_number(values.get(name))
            and known_number(reference.get(name))
            and values[name] <= reference[name]
        )
    )


def no_worse(
    values: Mapping[str, float | None],
    reference: Mapping[str, float | None],
    measures: Sequence[str] = MEASURES,
) -> bool:
    """Whether no measure is worse than the reference's. Equal is no worse; missing and NaN are never no worse."""
    return not failing(values, reference, measures)


def faults(setting: Setting, reference: Reference, measures: Sequence[str]) -> tuple[str, ...]:
    """Why a setting does not stand for a reference: the measures that fail, and seeds that it was not run with."""
    lacking = reference.seeds - setting.seeds
    seeds = (f"seeds {', '.join(map(str, sorted(lacking)))} not run",) if lacking else ()
    return (*failing(setting.means, reference.values, measures), *seeds)


def smallest_no_worse(
    settings: Sequence[Setting], reference: Reference, measures: Sequence[str] | None = None
) -> Setting | None:
    """The setting with the fewest parameters without faults; of equal ones that of less loss, then by name.

    The reference's seeds must all have been run: a mean over fewer is another number.
    """
    judged = reference.measures if measures is None else measures
    passing = [one for one in settings if not faults(one, reference, judged)]
    return min(passing, key=_smallness, default=None)


def _smallness(setting: Setting) -> tuple[int, float, str]:
    loss = setting.means.get("val_loss")
    return setting.parameters, loss if known_number(loss) else math.inf, setting.name


def next_smaller(
    settings: Sequence[Setting], reference: Reference, found: Setting | None, most: int = 3
) -> list[tuple[Setting, tuple[str, ...]]]:
    """The largest settings below the one found (below the reference where none was), each with its faults."""
    limit = reference.parameters if found is None else found.parameters
    smaller = sorted((one for one in settings if one.parameters < limit), key=_smallness, reverse=True)
    return [(one, faults(one, reference, reference.measures)) for one in smaller[:most]]


def ratio(reference: int, found: Setting | None) -> float | None:
    """How many times fewer parameters; None where nothing was found, or it has none."""
    return None if found is None or found.parameters <= 0 else reference / found.parameters


def gain_reference(
    dense: Setting,
    base: Mapping[str, float | None],
    share: float = 0.95,
    measures: Sequence[str] = ("val_loss", "fid"),
) -> Reference:
    """What is left to reach a share of a setting's gain: base - share * (base - dense), for each measure.

    A measure without a gain, or whose base is not known, has no value, so that nothing reaches it.
    """
    values = {name: _after_gain(base.get(name), dense.means.get(name), share) for name in MEASURES}
    name = f"{100 * share:g} % of {dense.name}'s gain"
    return Reference(name, dense.parameters, dense.seeds, values, tuple(measures))


def _after_gain(base: float | None, end: float | None, share: float) -> float | None:
    if not known_number(base) or not known_number(end) or end >= base:
        return None
    return base - share * (base - end)


def reference_of(setting: Setting) -> Reference:
    """A setting's own means as what is to be reached."""
    return Reference(setting.name, setting.parameters, setting.seeds, setting.means)
