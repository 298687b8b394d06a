"""Which weights of a network are adapted: (name, out_features, in_features) triples, in module order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from ..errors import AdapterError, nearest
from .layers import is_adaptable
from .naming import Target, ending_of, ends_in, is_plain, matches
from .presets import ALL_LINEAR, PRESETS

ADAPTABLE = (nn.Linear, nn.Conv2d)


class Chosen(Protocol):
    """Settings that choose layers: an adapter's or a peer's."""

    targets: tuple[str, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """The layers that settings choose, and which pattern takes which, all in module order."""

    names: tuple[str, ...]
    taken: dict[str, tuple[str, ...]]
    """By pattern of ``targets``; a layer may be taken by several."""
    excluded: dict[str, tuple[str, ...]]
    """By pattern of ``exclude``; of the layers that were taken alone."""


def find_targets(model: nn.Module, config: Chosen) -> list[Target]:
    """The Linear and Conv2d layers that ``config.targets`` take and ``config.exclude`` leaves, in module order.

    Raises:
        AdapterError: naming near misses, if a pattern matches no such layer; if all are excluded.
    """
    layers = adaptable_layers(model)
    return [describe(name, layers[name]) for name in select_layers(model, layers, config).names]


def adaptable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The Linear and Conv2d layers by name, in module order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ADAPTABLE)}


def describe(name: str, layer: nn.Module) -> Target:
    """The triple of a Linear or Conv2d layer."""
    out_features = layer.weight.shape[0]
    return Target(name, out_features, layer.weight.numel() // out_features)


def select_layers(model: nn.Module, layers: Mapping[str, nn.Module], settings: Chosen) -> Selection:
    """Choose among some layers of a network.

    Args:
        model: the network, for messages.
        layers: those to choose among, by name.
        settings: patterns to take and to leave out (:mod:`.naming`).

    Raises:
        AdapterError: naming near misses, if a pattern takes nothing or leaves nothing out; if all are left out.
    """
    taken = {pattern: _taken_by(pattern, layers) for pattern in settings.targets}
    for pattern, names in taken.items():
        if not names:
            raise AdapterError(_nothing_matched(pattern, model))
    wanted = _in_order(layers, taken)
    excluded = {pattern: _within(wanted, _taken_by(pattern, layers)) for pattern in settings.exclude}
    for pattern, names in excluded.items():
        if not names:
            raise AdapterError(_nothing_excluded(pattern, wanted, _taken_by(pattern, layers)))
    left_out = set(_in_order(layers, excluded))
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


def _taken_by(pattern: str, layers: Mapping[str, nn.Module]) -> tuple[str, ...]:
    # The letters come first, so that a config from before wildcards and presets means what it meant.
    exact = tuple(name for name in layers if ends_in(name, pattern))
    if exact or is_plain(pattern):
        return exact
    found = (name for name in layers if matches(name, pattern))
    if pattern in PRESETS:  # a class of its own, such as attention's in torch, is taken by its name alone
        found = (name for name in found if is_adaptable(layers[name]))
    if pattern == ALL_LINEAR:
        found = (name for name in found if isinstance(layers[name], nn.Linear))
    return tuple(found)


def _nothing_matched(pattern: str, model: nn.Module) -> str:
    layers = adaptable_layers(model)
    others = [(name, module) for name, module in model.named_modules() if name and matches(name, pattern)]
    if others and pattern not in PRESETS:
        return f"target {pattern!r} {_is_no_layer(pattern, *others[0], layers)}"
    return f"target {pattern!r} {_no_such_layer(pattern, f'layer of {type(model).__name__}', layers)}"


def _is_no_layer(pattern: str, name: str, module: nn.Module, layers: Iterable[str]) -> str:
    inside = [inner for inner in layers if inner.startswith(f"{name}.")]
    hint = f" Inside it: {', '.join(pattern + inner[len(name) :] for inner in inside[:3])}." if inside else ""
    count = sum(matches(inner, f"{pattern}.**") for inner in layers)
    every = f" {pattern}.** takes {count}." if len(inside) > 1 else ""
    return (
        f"matches {name!r}, which is a {type(module).__name__}; Linear and Conv2d layers can be adapted."
        f"{hint}{every}"
    )


def _no_such_layer(pattern: str, where: str, layers: Iterable[str]) -> str:
    endings = _endings(layers)
    if "." in pattern:
        near = nearest(pattern, endings) or nearest(pattern.rpartition(".")[2], endings)
    else:
        near = nearest(pattern, [*endings, *PRESETS])
    if pattern in PRESETS:
        names = PRESETS[pattern]
        near = "" if pattern == ALL_LINEAR else f" It means {', '.join(names)}."
    shown = ", ".join(endings[:20]) or "nothing (it has none)"
    return f"matches no Linear or Conv2d {where}.{near} Its layers end in: {shown}."


def _nothing_excluded(pattern: str, wanted: tuple[str, ...], elsewhere: tuple[str, ...]) -> str:
    fault = f"exclude {pattern!r} takes away none of the {len(wanted)} targets"
    if elsewhere:
        more = f" and {len(elsewhere) - 1} more" if len(elsewhere) > 1 else ""
        return f"{fault}: it matches {elsewhere[0]}{more}, which are no targets. Leave it out."
    endings = _endings(wanted)
    near = nearest(pattern, endings) or nearest(pattern.rpartition(".")[2], endings)
    return f"{fault}.{near} They end in: {', '.join(endings[:20])}; the first is {wanted[0]}."


def _endings(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(ending_of, names)))
