"""Which weights of a network are adapted: (name, out_features, in_features) triples, in module order.

The patterns that choose them, and what targets are called, are told in :mod:`.naming`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from ..errors import AdapterError
from .layers import is_adaptable
from .misses import nothing_excluded, nothing_matched
from .naming import BOTH, Target, ends_in, is_one_name, is_plain, matches, split_pattern
from .places import BIAS, COLON, WEIGHT, parameter_in, sizes_of, split_name
from .presets import ALL_LINEAR, PRESETS

ADAPTABLE = (nn.Linear, nn.Conv2d)
"""Whose weights a pattern without a parameter takes."""
_MATRICES = (*ADAPTABLE, nn.Embedding)


class Chosen(Protocol):
    """Settings that choose layers: an adapter's or a peer's."""

    targets: tuple[str, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """What settings choose, and which pattern takes what, all in module order."""

    names: tuple[str, ...]
    taken: dict[str, tuple[str, ...]]
    """By pattern of ``targets``; a target may be taken by several."""
    excluded: dict[str, tuple[str, ...]]
    """By pattern of ``exclude``; of the layers that were taken alone."""


def find_targets(model: nn.Module, config: Chosen) -> list[Target]:
    """What ``config.targets`` take of a network and ``config.exclude`` leaves, in module order, weight before bias.

    Raises:
        AdapterError: naming near misses, if a pattern matches nothing that can be adapted; if all is excluded.
    """
    places = adaptable_places(model)
    return [describe(name, places[name]) for name in choose_targets(model, config).names]


def choose_targets(model: nn.Module, config: Chosen) -> Selection:
    """As :func:`find_targets`, with what each pattern takes or excludes.

    Raises:
        AdapterError: as :func:`find_targets` does.
    """
    return select_layers(model, adaptable_layers(model), config, adaptable_places(model))


def adaptable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The Linear and Conv2d layers by name, in module order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ADAPTABLE)}


def adaptable_places(model: nn.Module) -> dict[str, nn.Module]:
    """The layer of everything that can be a target, by the target's name; in module order, weight before bias."""
    found = {}
    for layer, module in model.named_modules():
        if not (isinstance(module, ADAPTABLE) or is_adaptable(module)):
            continue
        own = layer if isinstance(module, _MATRICES) else f"{layer}{COLON}{WEIGHT}"
        for name in (own, f"{layer}{COLON}{BIAS}"):
            if getattr(module, split_name(name)[1], None) is not None:
                found[name] = module
    return found


def describe(name: str, layer: nn.Module) -> Target:
    """The triple of a target of this name, which lies in this layer."""
    return Target(name, *sizes_of(name, parameter_in(layer, name).shape))


def select_layers(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    settings: Chosen,
    places: Mapping[str, nn.Module] | None = None,
) -> Selection:
    """Choose among some layers of a network.

    Args:
        model: the network, for messages.
        layers: those whose weights are chosen among, by name.
        settings: patterns to take and to leave out (:mod:`.naming`).
        places: of all that is chosen among the layer, by the target's name; by default there is nothing beside
            these weights.

    Raises:
        AdapterError: naming near misses, if a pattern takes nothing or leaves nothing out; if all are left out.
    """
    places = layers if places is None else places
    taken = {pattern: _taken_by(pattern, layers, places) for pattern in settings.targets}
    for pattern, names in taken.items():
        if not names:
            raise AdapterError(nothing_matched(pattern, model, layers, places))
    wanted = _in_order(places, taken)
    matched = {pattern: _taken_by(pattern, layers, places) for pattern in settings.exclude}
    excluded = {pattern: _within(wanted, names) for pattern, names in matched.items()}
    for pattern, names in excluded.items():
        if not names:
            raise AdapterError(nothing_excluded(pattern, wanted, matched[pattern]))
    left_out = set(_in_order(places, excluded))
    chosen = tuple(name for name in wanted if name not in left_out)
    if not chosen:
        raise AdapterError(
            f"all {len(wanted)} layers that targets {', '.join(settings.targets)} take are excluded by "
            f"{', '.join(settings.exclude)}; leave at least one."
        )
    return Selection(chosen, taken, excluded)


def _in_order(layers: Iterable[str], found: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """What any pattern found, each once."""
    names = {name for each in found.values() for name in each}
    return tuple(name for name in layers if name in names)


def _within(wanted: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    some = set(names)
    return tuple(name for name in wanted if name in some)


def _taken_by(
    pattern: str, layers: Mapping[str, nn.Module], places: Mapping[str, nn.Module]
) -> tuple[str, ...]:
    """What a pattern takes: weights of the layers, or what its parameter, or a name that is no layer's, says."""
    ending, parameter = split_pattern(pattern)
    if parameter is not None:
        having = {name: places[name] for name in places if parameter in (BOTH, split_name(name)[1])}
        return _among(having, ending)
    found = _among(layers, pattern)
    return found if found or not is_one_name(pattern) else _among(places, pattern)


def _among(places: Mapping[str, nn.Module], pattern: str) -> tuple[str, ...]:
    """The places whose layers match a pattern without a parameter."""
    # The letters come first, so that a config from before wildcards and presets means what it meant.
    exact = tuple(name for name in places if ends_in(split_name(name)[0], pattern))
    if exact or is_plain(pattern):
        return exact
    found = (name for name in places if matches(split_name(name)[0], pattern))
    if pattern in PRESETS:  # a class of its own, such as attention's in torch, is taken by its name alone
        found = (name for name in found if is_adaptable(places[name]))
    if pattern == ALL_LINEAR:
        found = (name for name in found if isinstance(places[name], nn.Linear))
    return tuple(found)
