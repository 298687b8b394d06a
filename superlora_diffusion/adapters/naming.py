"""Targets as names and sizes, and how names match patterns. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator


def _one_is_a_list_of_one(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _name_something(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or any(not part for name in value for part in name.split(".")):
        raise ValueError(f"got {list(value)!r}: give at least one module name such as 'to_q' or 'attn.to_q'")
    return value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_one_is_a_list_of_one), AfterValidator(_name_something)]
"""Names of targets in a config: whole dotted components at the end of a module's name."""


class Target(NamedTuple):
    """One weight matrix; a convolution's kernel counts as (out, in * kh * kw)."""

    name: str
    out_features: int
    in_features: int

    @property
    def size(self) -> int:
        return self.out_features * self.in_features


def as_targets(triples: Iterable[Sequence]) -> tuple[Target, ...]:
    """(name, out_features, in_features) triples of any kind as targets."""
    return tuple(Target(*triple) for triple in triples)


def matches(name: str, pattern: str) -> bool:
    """Whether ``pattern`` is the whole of a dotted name or its last whole components."""
    return name == pattern or name.endswith(f".{pattern}")


def layer_name(name: str, patterns: Iterable[str]) -> str:
    """The attention module a target belongs to: its name without the (longest) pattern it matched."""
    matched = max((pattern for pattern in patterns if matches(name, pattern)), key=len, default="")
    return name[: len(name) - len(matched)].removesuffix(".")
