"""Typed settings, checked at the door: the base class of every config, and faults in words.

Pydantic does the checking. This file only turns its report into our one error, with all faults at once:
the field's dotted path, what came, what is accepted and, for a misspelled name, the nearest one.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import ConfigError, nearest


class Settings(BaseModel):
    """A frozen group of named values. Unknown names are refused.

    Raises:
        ConfigError: listing every fault, when built from wrong names or values.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(faults=list(_faults(error, type(self)))) from None


def _faults(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for fault in error.errors(include_url=False):
        path = [part for part in fault["loc"] if _is_key(part)]
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError) and cause.faults:
            yield from ((".".join([*map(str, path), inner]).strip("."), text) for inner, text in cause.faults)
        else:
            yield ".".join(map(str, path)), _describe(fault, model, path)


def _is_key(part: int | str) -> bool:
    # Unions put the tried type's name into the location ("list[...]", "int", "function-after[...]").
    return isinstance(part, int) or (not any(sign in part for sign in "[](") and part not in _TYPE_NAMES)


_TYPE_NAMES = {"int", "float", "str", "bool", "none", "constrained-int", "constrained-str", "literal"}


def _describe(fault: dict[str, Any], model: type[BaseModel], path: list[int | str]) -> str:
    if fault["type"] == "extra_forbidden":
        accepted = _names_at(model, path[:-1])
        name = str(path[-1])
        return f"unknown name {name!r}.{nearest(name, accepted)} Accepted: {', '.join(accepted)}."
    if fault["type"] == "missing":
        return "is required and was not given."
    text = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return text
    return f"got {fault['input']!r}: {text[:1].lower() + text[1:]}."


def _names_at(model: type[BaseModel], path: list[int | str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for found in map(_model_in, get_args(annotation)) if found), None)
    return None
