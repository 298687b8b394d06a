"""A setting in words: the values of its config that are not the defaults."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..runs.config import RunConfig
from .collect import Run

_OF_THE_RUN = {"output", "seed", "adapter.seed"}  # differ between runs of one setting
Values = dict[str, str]


def changed_values(config: RunConfig) -> Values:
    """Dotted names and values that differ from a config that says nothing, written as YAML would.

    Left out is what libraries are told that do not train this run.
    """
    plain = dict(_flat(RunConfig(output="-").model_dump(mode="json")))
    given = _flat(config.model_dump(mode="json", exclude={"peft", "lycoris"} - {config.method}))
    return {
        name: _write(value)
        for name, value in given
        if name not in _OF_THE_RUN and (name not in plain or plain[name] != value)
    }


def values_of(runs: Sequence[Run]) -> Values:
    """The values of a setting; one that differs between its runs is given for each."""
    each = [changed_values(run.config) for run in runs if run.config is not None]
    names = dict.fromkeys(name for values in each for name in values)
    return {name: " | ".join(dict.fromkeys(values.get(name, "default") for values in each)) for name in names}


def shared_values(settings: Iterable[Values]) -> Values:
    """What all settings have in common; nothing, if there is only one to tell of."""
    settings = list(settings)
    if len(settings) < 2:
        return {}
    return {
        name: value
        for name, value in settings[0].items()
        if all(other.get(name) == value for other in settings[1:])
    }


def _flat(values: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Leaves by dotted name. A mapping whose names are the user's own is one value."""
    leaves = []
    for name, value in values.items():
        here = f"{path}{name}"
        if isinstance(value, dict) and value and not here.endswith(_LEAVES):
            leaves += _flat(value, f"{here}.")
        else:
            leaves.append((here, value))
    return leaves


_LEAVES = ("class_map", "unet")


def _write(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
