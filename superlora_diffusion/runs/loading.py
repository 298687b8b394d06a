"""From a config's name or path and overrides to a ``RunConfig``; YAML to values. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from textwrap import indent
from typing import Any, Literal

import yaml

from ..errors import ConfigError, nearest
from .config import RunConfig

_PACKAGED = Path(__file__).parent.parent / "configs"  # in a wheel
_CHECKOUT = Path(__file__).parent.parent.parent / "configs"  # in a checkout


_SWEEPS = "sweeps"  # a folder of this name holds sweeps, at any depth
# Values that start their section anew, and what of it stays.
_ANEW = {
    "adapter.variant": ("targets", "exclude", "seed"),
    "peft.tuner": ("targets", "exclude"),
    "lycoris.algo": ("targets", "exclude"),
}


class _Loader(yaml.SafeLoader):
    """YAML with numbers and words as people write them (1e-3, no) and no key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"given twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


# "no" is a value of train.mixed_precision and could be a class: only true and false are booleans (YAML 1.2).
# A date is a natural name of a run, and 1:30 is no number.
_OWN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OWN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][\d_]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf)$|^\.(nan|NaN)$"),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|false|False)$"), list("tTfF")
)


def configs_folder() -> Path:
    """Where the packaged configs lie."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def packaged_configs() -> dict[str, Path]:
    """The packaged run configs by name ("demo", ...)."""
    return {name: path for name, path in _packaged().items() if path.parent.name != _SWEEPS}


def packaged_sweeps() -> dict[str, Path]:
    """The packaged sweeps by name ("sweeps/paper-small", "paper/sweeps/to-street", ...)."""
    return {name: path for name, path in _packaged().items() if path.parent.name == _SWEEPS}


def _packaged() -> dict[str, Path]:
    folder = configs_folder()
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))
    }


def find_config(name: str) -> Path:
    """The file of a run's config given by path or by packaged name.

    Raises:
        ConfigError: if there is neither.
    """
    return find_in(name, "config")


def find_in(name: str, kind: Literal["config", "sweep"]) -> Path:
    """The file of a config or a sweep given by path or by packaged name.

    Raises:
        ConfigError: if there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    packaged = packaged_sweeps() if kind == "sweep" else packaged_configs()
    if name in packaged:
        return packaged[name]
    raise ConfigError(
        f"{kind} {name!r} is neither a file nor a packaged {kind}.{nearest(name, packaged)} "
        f"Packaged: {', '.join(packaged)}."
    )


def load_config(name: str, overrides: Iterable[str] = (), **given: Any) -> RunConfig:
    """Read a config and apply overrides.

    Args:
        name: a path or a packaged name.
        overrides: ``key.path=value`` texts; values are YAML. ``adapter.variant`` is taken first and drops
            what the file says of the adapter beside targets, exclude and seed; ``peft.tuner`` and ``lycoris.algo``
            do alike.
        **given: top-level values that win over the file and are overridden by none (None: not given).

    Raises:
        ConfigError: for a file that is no YAML mapping, a malformed override, or faults in the values.
    """
    values = apply_overrides(read_values(find_config(name)), map(parse_override, overrides))
    values.update({key: value for key, value in given.items() if value is not None})
    try:
        return RunConfig(**values)
    except ConfigError as error:
        raise ConfigError(f"config {name}:\n" + indent(str(error), "  "), faults=error.faults) from None


def read_values(path: Path) -> dict[str, Any]:
    """The values in a YAML file.

    Raises:
        ConfigError: if it cannot be read or is no mapping.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path} cannot be read: {error}") from error


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """A YAML mapping as a dict; anything else is a ConfigError that names ``source``."""
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(
            f"{source} holds a {type(values).__name__}; a mapping of names to values is expected."
        )
    return values


def to_yaml(config: RunConfig) -> str:
    """The resolved config as YAML, every value written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def as_yaml_list(words: Iterable[str]) -> str:
    """Words as a YAML list on one line, quoted where YAML would read something else: ``[to_q,"*.to_v"]``."""
    return f"[{','.join(map(_as_yaml_item, words))}]"


def _as_yaml_item(word: str) -> str:
    try:
        plain = yaml.load(f"[{word}]", Loader=_Loader) == [word]
    except yaml.YAMLError:
        plain = False
    return word if plain else json.dumps(word)


def differences(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """Lines ``path: old -> new`` for each value that differs between two resolved configs."""
    lines = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after, here = old.get(key), new.get(key), f"{path}{key}"
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{here}.")
        elif before != after:
            lines.append(f"{here}: {before!r} -> {after!r}")
    return lines


def parse_override(text: str) -> tuple[str, Any]:
    """A ``key.path=value`` text as (dotted path, value).

    Raises:
        ConfigError: if it has another form, or the value is not YAML.
    """
    path, sign, value = text.partition("=")
    if not sign or not all(path.strip().split(".")):
        raise ConfigError(f"override {text!r} is not of the form key.path=value, such as train.steps=500.")
    try:
        return path.strip(), yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {text!r}: the value is not valid YAML: {error}") from error


def apply_overrides(values: dict[str, Any], overrides: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A config's values with (dotted path, value) pairs put in; ``values`` stays as it is."""
    values = dict(values)
    if "eval" in values and "evaluation" not in values:
        values["evaluation"] = values.pop("eval")
    for path, value in sorted(overrides, key=lambda pair: pair[0] not in _ANEW):
        _put(values, path, value)
    return values


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    if outer and outer[0] == "eval":
        outer[0] = "evaluation"
    section = values.get(outer[0]) if outer else None
    if path in _ANEW and isinstance(section, dict):
        # The section starts anew: the file's rank or options belonged to the variant or tuner it named.
        values[outer[0]] = {key: section[key] for key in _ANEW[path] if key in section}
    for key in outer:
        inner = values.get(key)
        values[key] = dict(inner) if isinstance(inner, dict) else {}
        values = values[key]
    values[last] = value
