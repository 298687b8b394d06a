"""Targets as names and sizes, and the patterns that names match. Imports no torch.

A pattern is compared with the END of a module's name, by whole dotted components:

- ``to_q`` or ``attn1.to_q``: these components, letter by letter.
- ``to_[kv]``, ``attn?.to_*``: within a component ``*`` is any text, ``?`` any one letter, ``[...]`` one of these
  letters and ``[!...]`` one of the others (Python's fnmatch, capitals matter).
- ``mid_block.**``: a component ``**`` is any number of components, none among them. This one is all of mid_block.
- ``^down_blocks.*.attentions.**``: after a ``^`` the WHOLE name is compared, from its first component on.
- ``qv``, ``qk``, ``vo``, ``qkvo``, ``attention``, ``attention+mlp``, ``all-linear``: presets (:mod:`.presets`), the
  layers of these kinds that a network has, under whatever names.

A pattern that the name of some layer ends in letter by letter means that alone: ``attention`` is the layer of this
name where a network has one.

What is taken of a layer:

- Without a colon, its weight; wildcards and presets take the weights of Linear and Conv2d layers alone. A pattern
  without wildcards that names none of these may name a GroupNorm or LayerNorm (``conv_norm_out``), whose weight and
  bias it takes as two targets, or an Embedding (``class_embedding``), whose weight it takes.
- With ``:weight``, ``:bias`` or ``:*`` (both) behind it, these parameters of every layer that it matches and that has
  them, wildcards and presets over all these kinds of layers: ``conv_out:bias``, ``*norm*:weight``, ``**:bias``.

A target is called like its layer; a bias, and the weight of a normalisation, with its parameter (:mod:`.places`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator

from .places import BIAS, COLON, WEIGHT, is_vector, split_name
from .presets import PRESETS

ANCHOR, ANY_DEPTH, BOTH = "^", "**", "*"


def _one_is_a_list_of_one(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _check_patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in value:
        layers, parameter = split_pattern(pattern)
        if parameter not in (None, WEIGHT, BIAS, BOTH):
            raise ValueError(f"got {pattern!r}: behind a colon give weight, bias or * for both")
        parts = layers.removeprefix(ANCHOR).split(".")
        if not all(parts):
            raise ValueError(f"got {list(value)!r}: give module names such as 'to_q' or 'attn.to_q'")
        if any(ANY_DEPTH in part and part != ANY_DEPTH for part in parts):
            raise ValueError(
                f"got {pattern!r}: '**' (any number of components) stands alone between dots; within a component "
                "write '*'"
            )
    return value


def _name_something(value: tuple[str, ...]) -> tuple[str, ...]:
    if not any(value):
        raise ValueError(f"got {list(value)!r}: give at least one module name such as 'to_q' or 'attn.to_q'")
    return value


Exclusions = Annotated[
    tuple[str, ...], BeforeValidator(_one_is_a_list_of_one), AfterValidator(_check_patterns)
]
"""Patterns, perhaps none."""
Patterns = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_is_a_list_of_one),
    AfterValidator(_name_something),
    AfterValidator(_check_patterns),
]
"""Patterns, at least one."""


class Target(NamedTuple):
    """One weight matrix; a convolution's kernel counts as (out, in * kh * kw), a vector of n entries as (1, n)."""

    name: str
    out_features: int
    in_features: int

    @property
    def size(self) -> int:
        return self.out_features * self.in_features


def as_targets(triples: Iterable[Sequence]) -> tuple[Target, ...]:
    """(name, out_features, in_features) triples of any kind as targets."""
    return tuple(Target(*triple) for triple in triples)


def count_in_words(targets: int, vectors: int) -> str:
    """``20 matrices``, or ``20 matrices and 3 vectors``, of so many targets with so many vectors among them."""
    matrices = targets - vectors
    kinds = [
        (matrices, "matrix" if matrices == 1 else "matrices"),
        (vectors, "vector" + "s" * (vectors != 1)),
    ]
    return " and ".join(f"{count:,} {word}" for count, word in kinds if count)


def ends_in(name: str, plain: str) -> bool:
    """Whether ``plain``, letter by letter, is the whole of a dotted name or its last whole components."""
    return name == plain or name.endswith(f".{plain}")


def shortest_patterns(chosen: Sequence[str], layers: Sequence[str]) -> tuple[str, ...]:
    """Endings of names that match exactly the chosen layers, as a config would say it; else the names themselves."""
    endings = tuple(dict.fromkeys(ending_of(name) for name in chosen))
    found = [name for name in layers if any(ends_in(name, ending) for ending in endings)]
    return endings if set(found) == set(chosen) else tuple(chosen)


def ending_of(name: str) -> str:
    """The last component of a name, a number together with the one before it; a vector's parameter stays."""
    layer = split_name(name)[0]
    parts = layer.split(".")
    return (".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]) + name[len(layer) :]


def split_pattern(pattern: str) -> tuple[str, str | None]:
    """The part of a pattern that names layers, and the parameter it asks for behind a colon (``*``: both)."""
    layers, colon, parameter = pattern.partition(COLON)
    return layers, parameter if colon else None


def is_plain(pattern: str) -> bool:
    """Whether a pattern can only be meant letter by letter: no wildcard, no anchor, no preset, no parameter."""
    return is_one_name(pattern) and not pattern.startswith(ANCHOR) and COLON not in pattern


def is_one_name(pattern: str) -> bool:
    """Whether a pattern spells a name or its end, perhaps anchored: no wildcard, no preset."""
    return pattern not in PRESETS and not any(map(pattern.count, "*?["))


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern (see above) without a parameter matches a layer's name. ``all-linear`` matches every name."""
    if ends_in(name, pattern):
        return True
    if is_plain(pattern):
        return False
    return any(_fits(tuple(name.split(".")), _components(each)) for each in PRESETS.get(pattern, (pattern,)))


@lru_cache(maxsize=1024)
def _components(pattern: str) -> tuple[str, ...]:
    """What a whole name is compared with; an end of a name is whatever comes before it, then the pattern."""
    if pattern.startswith(ANCHOR):
        return tuple(pattern.removeprefix(ANCHOR).split("."))
    return (ANY_DEPTH, *pattern.split("."))


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    head, rest = pattern[0], pattern[1:]
    if head == ANY_DEPTH:
        return any(_fits(parts[start:], rest) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], head) and _fits(parts[1:], rest)


def layer_name(name: str, patterns: Iterable[str]) -> str:
    """The attention module (or MLP) a target belongs to; a vector belongs to its own layer.

    Of a matrix it is the target's name without the (longest) pattern that it ends in letter by letter. A wildcard or
    a preset may match any part of a name; there it is the name without the layer's own ending: ``to_q``,
    ``to_out.0``, ``net.0.proj``.
    """
    if is_vector(name):
        return split_name(name)[0]
    split = map(split_pattern, patterns)
    patterns = [pattern for pattern, parameter in split if parameter != BIAS]
    plain = max((pattern for pattern in patterns if ends_in(name, pattern)), key=len, default="")
    if not plain and any(matches(name, pattern) for pattern in patterns):
        return _ENDING.sub("", name)
    return name[: len(name) - len(plain)].removesuffix(".")


# A Sequential numbers its layers, and diffusers' FeedForward keeps its own in one called net.
_ENDING = re.compile(r"(^|\.)(net\.\d+(\.proj)?|[^.]*[^.\d][^.]*(\.\d+)?|\d+)$")
