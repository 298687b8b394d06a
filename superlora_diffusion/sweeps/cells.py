"""From a sweep's axes to its cells: every combination named, resolved and checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..runs.config import RunConfig
from ..runs.loading import apply_overrides, find_config, read_values
from .config import Axes, SweepConfig, flatten
from .folder import SweepFolder

Values = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One point of the axes: what all seeds of it share."""

    name: str
    values: Values
    """By dotted key, over the sweep's run config."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    name: str
    """Also its folder's."""
    setting: str
    seed: int
    config: RunConfig
    """Without the searched learning rate, where one is searched."""


def list_settings(sweep: SweepConfig) -> list[Setting]:
    """All settings, in the order of the file; a name tells the values that vary.

    Raises:
        ConfigError: if two settings come out with one name.
    """
    families = sweep.settings or (None,)
    found = []
    for family in families:
        own = [{}] if family is None else list(combinations(family))
        fixed = {} if family is None else family.set
        for inner, outer in itertools.product(own, combinations(Axes(grid=sweep.grid, zip=sweep.zip))):
            varied = {**inner, **outer}
            words = ([family.name] if family else []) + [_word(key, value) for key, value in varied.items()]
            name = "-".join(words) or "run"
            parts = (sweep.set, outer, fixed, inner)
            found.append(
                Setting(name, {key: value for part in parts for key, value in flatten(part).items()})
            )
    names = [setting.name for setting in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"settings come out with one name: {', '.join(twice)}. Give them names of their own."
        )
    return found


def combinations(axes: Axes) -> Iterator[Values]:
    """Every combination of the grid with every place of the zipped lists, the last key fastest."""
    zipped = [dict(zip(axes.zip, values, strict=True)) for values in zip(*axes.zip.values(), strict=True)]
    for values in itertools.product(*axes.grid.values()):
        for together in zipped or [{}]:
            yield {**dict(zip(axes.grid, values, strict=True)), **together}


def _word(key: str, value: Any) -> str:
    """``adapter.rank`` and 4 as "rank4"; what a folder cannot be called becomes a dash."""
    text = "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{key.rpartition('.')[2]}{re.sub(r'[^A-Za-z0-9._+=]+', '-', text)}"


def list_cells(sweep: SweepConfig) -> list[Cell]:
    """Settings times seeds, all seeds of a setting together.

    Raises:
        ConfigError: naming every setting whose config is faulty.
    """
    values = read_values(find_config(sweep.config))
    cells, faults = [], []
    for setting in list_settings(sweep):
        try:
            for seed in sweep.seeds:
                cells.append(_cell(sweep, values, setting, seed))
        except ConfigError as error:
            faults.append((f"setting {setting.name}", str(error).replace("\n", "\n    ")))
    if faults:
        raise ConfigError(faults=faults)
    return cells


def _cell(sweep: SweepConfig, values: Values, setting: Setting, seed: int) -> Cell:
    name = f"{setting.name}-seed{seed}"
    # The adapter's start and its fixed projection are drawn by the seed, too, or they would be no part of the spread.
    given = {"adapter.seed": seed, **setting.values}
    resolved = apply_overrides(values, given.items())
    folder = SweepFolder(sweep.output).cell(name)
    return Cell(name, setting.name, seed, RunConfig(**{**resolved, "seed": seed, "output": str(folder)}))
