"""Faults of nested settings, in words."""

from __future__ import annotations

import pytest
from pydantic import Field, field_validator

from superlora_diffusion.errors import ConfigError
from superlora_diffusion.settings import Settings


class Inner(Settings):
    size: int = Field(1, ge=1)
    kind: int | str = 1
    parts: tuple[int, ...] = ()

    @field_validator("kind")
    @classmethod
    def _no_zero(cls, value):
        if value == 0:
            raise ValueError("got 0: give a name")
        return value


class Outer(Settings):
    inner: Inner = Inner()
    maybe: Inner | None = None
    name: str


def faults(**values) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        Outer(**values)
    return dict(caught.value.faults)


def test_values_are_kept_and_frozen():
    outer = Outer(name="x", inner={"size": 3, "parts": [1, 2]})
    assert outer.inner.size == 3 and outer.inner.parts == (1, 2)
    with pytest.raises(Exception, match="frozen"):
        outer.name = "y"


def test_paths_lead_to_the_field_without_the_names_of_types():
    found = faults(inner={"size": 0, "kind": 0, "parts": [1, "x"]}, maybe={"siz": 2})
    assert set(found) == {"inner.size", "inner.kind", "inner.parts.1", "maybe.siz", "name"}
    assert found["inner.kind"] == "got 0: give a name"
    assert found["inner.size"] == "got 0: input should be greater than or equal to 1."
    assert found["name"] == "is required and was not given."
    assert found["maybe.siz"] == "unknown name 'siz'. Did you mean 'size'? Accepted: size, kind, parts."


def test_a_value_of_no_accepted_type_is_told_at_the_field_itself():
    found = faults(name="x", inner={"kind": [1]})
    assert set(found) == {"inner.kind"} and "[1]" in found["inner.kind"]


def test_a_section_that_is_no_mapping_is_quoted():
    assert "'all'" in faults(name="x", inner="all")["inner"]
