"""From a config's name or path and overrides to a ``RunConfig``; YAML to values. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, nearest
from .config import RunConfig

_PACKAGED = Path(__file__).parent.parent / "configs"  # in a wheel
_CHECKOUT = Path(__file__).parent.parent.parent / "configs"  # in a checkout


# Values that start their section anew, and what of it stays.
_ANEW = {
    "adapter.variant": ("targets", "seed"),
    "peft.tuner": ("targets",),
    "lycoris.algo": ("targets",),
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
    """The packaged configs by name ("demo", ...)."""
    folder = configs_folder()
    return {str(path.relative_to(folder).with_suffix("")): path for path in sorted(folder.rglob("*.yaml"))}


def find_config(name: str) -> Path:
    """The file of a config given by path or by packaged name.

    Raises:
        ConfigError: if there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    packaged = packaged_configs()
    if name in packaged:
        return packaged[name]
    raise ConfigError(
        f"config {name!r} is neither a file nor a packaged config.{nearest(name, packaged)} "
        f"Packaged: {', '.join(packaged)}."
    )


def load_config(name: str, overrides: Iterable[str] = (), **given: Any) -> RunConfig:
    """Read a config and apply overrides.

    Args:
        name: a path or a packaged name.
        overrides: ``key.path=value`` texts; values are YAML. ``adapter.variant`` is taken first and drops
            what the file says of the adapter beside its targets and seed; ``peft.tuner`` and ``lycoris.algo`` alike.
        **given: top-level values that win over the file and are overridden by none (None: not given).

    Raises:
        ConfigError: for a file that is no YAML mapping, a malformed override, or faults in the values.
    """
    path = find_config(name)
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path} cannot be read: {error}") from error
    for text in sorted(overrides, key=lambda text: text.partition("=")[0].strip() not in _ANEW):
        _override(values, text)
    values.update({key: value for key, value in given.items() if value is not None})
    try:
        return RunConfig(**values)
    except ConfigError as error:
        raise ConfigError(f"config {name}:\n" + _indent(str(error)), faults=error.faults) from None


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


def _override(values: dict[str, Any], text: str) -> None:
    path, sign, value = text.partition("=")
    keys = path.strip().split(".")
    if not sign or not all(keys):
        raise ConfigError(f"override {text!r} is not of the form key.path=value, such as train.steps=500.")
    try:
        parsed = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {text!r}: the value is not valid YAML: {error}") from error
    section = values.get(keys[0])
    if path.strip() in _ANEW and isinstance(section, dict):
        # The section starts anew: the file's rank or options belonged to the variant or tuner it named.
        values[keys[0]] = {key: section[key] for key in _ANEW[path.strip()] if key in section}
    for key in keys[:-1]:
        inner = values.get(key)
        values[key] = dict(inner) if isinstance(inner, dict) else {}
        values = values[key]
    values[keys[-1]] = parsed


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
