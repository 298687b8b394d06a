"""Options of a library, checked against the library's own names and types before anything is attached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from ..errors import ConfigError, nearest


def check_options(
    options: Mapping[str, Any], accepted: Mapping[str, Any], reserved: Mapping[str, str], path: str
) -> dict[str, Any]:
    """The options with values of the library's types.

    Args:
        options: what the user gave.
        accepted: {name: type} of everything the library knows.
        reserved: {name: why not} of what it knows and the user may not set here.
        path: the section in the config, for messages.

    Raises:
        ConfigError: listing every fault.
    """
    values, faults = {}, []
    free = [name for name in accepted if name not in reserved]
    for name, value in options.items():
        if name in reserved:
            faults.append((f"{path}.{name}", f"cannot be set here: {reserved[name]}."))
        elif name not in accepted:
            text = f"unknown name {name!r}.{nearest(name, free)} Accepted: {', '.join(free)}."
            faults.append((f"{path}.{name}", text))
        else:
            try:
                values[name] = _validated(value, accepted[name])
            except ValueError as error:
                faults.append((f"{path}.{name}", f"got {value!r}: {error}."))
    if faults:
        raise ConfigError(faults=faults)
    return values


def _validated(value: Any, kind: Any) -> Any:
    adapter = _adapter(kind)
    if adapter is None:
        return value
    try:
        result = adapter.validate_python(value)
    except ValidationError as error:
        told = [fault["msg"].removeprefix("Value error, ") for fault in error.errors(include_url=False)]
        raise ValueError("; or ".join(dict.fromkeys(text[:1].lower() + text[1:] for text in told))) from None
    if isinstance(value, bool) and result is not value:  # true is no rank of 1
        raise ValueError("neither true nor false is accepted")
    return result


def _adapter(kind: Any) -> TypeAdapter | None:
    """What checks a type; None for a type that pydantic cannot check."""
    for config in (ConfigDict(arbitrary_types_allowed=True), None):
        try:
            return TypeAdapter(kind, config=config)
        except (PydanticUserError, TypeError, NameError):
            continue
    return None
