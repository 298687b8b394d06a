"""``SweepConfig``: which runs a sweep is made of. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from ..errors import ConfigError
from ..runs.loading import find_in, parse_override, read_values
from ..settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")
Axis = Annotated[tuple[Any, ...], Field(min_length=1)]


class Axes(Settings):
    """Values over the keys of a run's config: some fixed, some varied."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Fixed values by dotted key, such as adapter.variant: lora."""
    grid: dict[str, Axis] = Field(default_factory=dict)
    """Lists by dotted key; every combination is a setting."""
    zip: dict[str, Axis] = Field(default_factory=dict)
    """Lists of one length by dotted key; the values at the same place go together."""

    @model_validator(mode="after")
    def _axes_fit(self) -> Axes:
        lengths = {key: len(values) for key, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise ConfigError(faults=[("zip", f"lists of one length are zipped, but {told}.")])
        twice = sorted(
            self.grid.keys() & self.zip.keys() | (self.grid.keys() | self.zip.keys()) & self.set.keys()
        )
        if twice:
            raise ConfigError(
                faults=[("", f"{', '.join(twice)}: given in more than one of set, grid and zip.")]
            )
        return self


class NamedSetting(Axes):
    """A named setting, or a family of them with axes of its own."""

    name: str
    """Letters, digits and ``. _ + = -``: it names a folder."""

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"got {value!r}: letters, digits and . _ + = - are accepted, a letter or digit first"
            )
        return value


class LearningRateSearch(Settings):
    """The short race that finds a setting's learning rate: hill climbing on the validation loss.

    The method's default and its two neighbours are tried first, then on in the direction that wins, until the
    winner has a neighbour on either side.
    """

    steps: int = Field(150, ge=1)
    """Optimiser steps of each try, with a whole learning-rate schedule of their own."""
    factor: float = Field(2.0, ge=1.1)
    """Ratio of neighbouring rates."""
    start: float | None = Field(None, gt=0)
    """First rate; null takes the config's, or where it gives none the method's own default."""
    max_tries: int = Field(7, ge=1)
    """Most rates that are tried for one setting."""
    tolerance: float = Field(0.02, ge=0)
    """The lowest rate wins that reaches all but this share of the best one's gain over the untrained loss: short runs
    favour rates that are too high."""


class SweepConfig(Settings):
    """A sweep: settings times seeds, each an ordinary run.

    Raises:
        ConfigError: listing every fault.
    """

    output: str
    """The sweep's folder."""
    config: str = "demo"
    """The run config that every cell starts from: a path (from the sweep's file, or from here) or a packaged name."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Fixed values for all cells, by dotted key."""
    settings: tuple[NamedSetting, ...] = ()
    """Named settings; none is the one setting that the run config describes. In a file, the path or the packaged
    name of another sweep takes that one's."""
    grid: dict[str, Axis] = Field(default_factory=dict)
    zip: dict[str, Axis] = Field(default_factory=dict)
    """Axes that every setting is multiplied with."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1)
    """A run a seed (of the run and of the adapter); means and deviations are over them."""
    budget: tuple[float, float] | None = None
    """Fewest and most trained numbers; settings outside are left out. One number is the most."""
    learning_rate: LearningRateSearch | None = None
    """How each setting's learning rate is found; null takes what the config says."""
    score: bool = True
    """Whether finished runs are scored as ``eval-is`` does."""

    @field_validator("budget", mode="before")
    @classmethod
    def _one_number_is_the_most(cls, value: Any) -> Any:
        return (0, value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _parts_fit(self) -> SweepConfig:
        faults = []
        axes = Axes(set=self.set, grid=self.grid, zip=self.zip)
        faults += [("settings", fault) for setting in self.settings for fault in _clashes(axes, setting)]
        names = [setting.name for setting in self.settings]
        faults += [("settings", f"the name {name!r} is given twice.") for name in _twice(names)]
        faults += [("seeds", f"{seed} is given twice.") for seed in _twice(self.seeds)]
        if self.budget is not None and self.budget[0] > self.budget[1]:
            faults.append(("budget", f"got {list(self.budget)}: the fewest comes first."))
        keys = {key for part in (self, *self.settings) for key in part_keys(part)}
        for key, instead in _OTHERWISE.items():
            if key in keys:
                faults.append(("set", f"{key} is not for a sweep to set: {instead}"))
        if self.learning_rate is not None and "train.learning_rate" in keys:
            faults.append(
                ("learning_rate", "train.learning_rate is set or varied, so there is nothing to search.")
            )
        if faults:
            raise ConfigError(faults=faults)
        return self


def flatten(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Sections as dotted keys: ``validation: {every: 5}`` is ``validation.every: 5``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value and all(isinstance(inner, str) for inner in value):
            flat |= flatten(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = value
    return flat


def part_keys(part: Axes | SweepConfig) -> frozenset[str]:
    """Every dotted key that a part sets or varies."""
    varied = [{key: value} for axes in (part.grid, part.zip) for key, axis in axes.items() for value in axis]
    return frozenset(key for values in (part.set, *varied) for key in flatten(values))


def _clashes(axes: Axes, setting: NamedSetting) -> list[str]:
    """An axis of the sweep that a setting sets as well would name runs by values that they do not have."""
    varied = part_keys(Axes(grid=axes.grid, zip=axes.zip))
    return [
        f"{setting.name} sets {key}, which the sweep varies." for key in sorted(varied & part_keys(setting))
    ]


_OTHERWISE = {"output": "use the sweep's own output.", "seed": "use the sweep's own seeds."}


def _twice(items: Any) -> list[Any]:
    items = list(items)
    return sorted({item for item in items if items.count(item) > 1})


def load_sweep(name: str, overrides: Iterable[str] = (), **given: Any) -> SweepConfig:
    """Read a sweep's file.

    Args:
        name: a path, or the name of a packaged sweep ("sweeps/paper-small").
        overrides: ``key.path=value`` texts over the run config of all cells.
        **given: top-level values that win over the file (None: not given).

    Raises:
        ConfigError: if there is no such file, or for faults in it.
    """
    values = {**read_sweep(name), **{key: value for key, value in given.items() if value is not None}}
    try:
        return override_sweep(SweepConfig(**values), overrides)
    except ConfigError as error:
        raise ConfigError(f"sweep {name}:\n" + indent(str(error), "  "), faults=error.faults) from None


def read_sweep(name: str) -> dict[str, Any]:
    """The values in a sweep's file, unchecked; a run config beside the file is found, and another sweep's settings.

    Raises:
        ConfigError: if there is no such file, or it is no YAML mapping.
    """
    path = find_in(name, "sweep")
    values = read_values(path)
    if isinstance(values.get("config"), str):
        values["config"] = _beside(path, values["config"])
    if isinstance(values.get("settings"), str):
        values["settings"] = _settings_of(_beside(path, values["settings"]), name)
    return values


def _beside(path: Path, name: str) -> str:
    """The file of this name in the folder of ``path``, where there is one; else the name as it is."""
    return str(path.parent / name) if (path.parent / name).is_file() else name


def _settings_of(other: str, name: str) -> Any:
    """The settings that another sweep's file lists.

    Raises:
        ConfigError: if there is no such file, or it has no list of settings of its own.
    """
    try:
        settings = read_values(find_in(other, "sweep")).get("settings")
    except ConfigError as error:
        raise ConfigError(f"sweep {name}: settings: {error}") from error
    if not isinstance(settings, list):
        raise ConfigError(
            f"sweep {name}: settings: {other} lists no settings of its own; name a sweep that does."
        )
    return settings


def override_sweep(sweep: SweepConfig, overrides: Iterable[str]) -> SweepConfig:
    """The sweep with ``key.path=value`` texts that hold for all cells.

    Raises:
        ConfigError: for a malformed text, or a key that the sweep varies or a setting sets.
    """
    pairs = [parse_override(text) for text in overrides]
    taken = part_keys(Axes(grid=sweep.grid, zip=sweep.zip)).union(*map(part_keys, sweep.settings))
    text = "the sweep's file varies it, or gives it by setting; change it there."
    faults = [(key, text) for key, _ in pairs if key in taken]
    if faults:
        raise ConfigError(faults=faults)
    return SweepConfig(**{**sweep.model_dump(), "set": {**flatten(sweep.set), **dict(pairs)}})
