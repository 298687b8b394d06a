"""What is said of a pattern that takes nothing, or leaves nothing out: near misses, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from ..errors import nearest
from .layers import KINDS, is_adaptable, kind_of
from .naming import BOTH, ending_of, is_one_name, matches, split_pattern
from .places import COLON, split_name
from .presets import ALL_LINEAR, PRESETS


def nothing_matched(
    pattern: str, model: nn.Module, layers: Mapping[str, nn.Module], places: Mapping[str, nn.Module]
) -> str:
    """Of a pattern that takes no target.

    Args:
        pattern: as the user gave it.
        model: the network.
        layers: those whose weights could be taken, by name.
        places: of all that could be taken the layer, by the target's name.
    """
    ending, parameter = split_pattern(pattern)
    others = [(name, module) for name, module in model.named_modules() if name and matches(name, ending)]
    if others and ending not in PRESETS:
        wanted = layers if parameter is None else _having(parameter, places)
        return f"target {pattern!r} {_is_no_layer(pattern, *others[0], wanted, places)}"
    if parameter is not None:
        return f"target {pattern!r} {_no_such_place(pattern, type(model).__name__, places)}"
    return f"target {pattern!r} {_no_such_layer(pattern, f'layer of {type(model).__name__}', layers, places)}"


def _having(parameter: str, places: Iterable[str]) -> list[str]:
    """The places that are this parameter of their layer."""
    return [name for name in places if parameter in (BOTH, split_name(name)[1])]


def _is_no_layer(
    pattern: str, name: str, module: nn.Module, wanted: Iterable[str], places: Iterable[str]
) -> str:
    ending, parameter = split_pattern(pattern)
    more = [place for place in places if matches(split_name(place)[0], ending)]
    if more and parameter is None and not is_one_name(ending):
        return (
            f"matches no Linear or Conv2d but {more[0]!r}, which wildcards without a parameter pass over; write "
            f"'{pattern}{COLON}{BOTH}', which takes {len(more)}, or {COLON}weight or {COLON}bias."
        )
    if is_adaptable(module):
        what = "weight or bias" if parameter in (None, BOTH) else parameter
        return f"matches {name!r}, a {kind_of(module)} that has no {what}."
    tail = "" if parameter is None else f"{COLON}{parameter}"
    inside = list(dict.fromkeys(split_name(place)[0] for place in wanted if place.startswith(f"{name}.")))
    shown = ", ".join(ending + inner[len(name) :] + tail for inner in inside[:3])
    hint = f" Inside it: {shown}." if inside else ""
    count = sum(matches(split_name(place)[0], f"{ending}.**") for place in wanted)
    every = f" {ending}.**{tail} takes {count}." if len(inside) > 1 else ""
    return f"matches {name!r}, which is a {kind_of(module)}; {KINDS} layers can be adapted.{hint}{every}"


def _no_such_place(pattern: str, network: str, places: Iterable[str]) -> str:
    parameter = split_pattern(pattern)[1]
    endings = _endings(split_name(name)[0] for name in _having(parameter, places))
    near = nearest(pattern, [f"{known}{COLON}{parameter}" for known in endings])
    what = "weight or bias" if parameter == BOTH else parameter
    shown = ", ".join(endings[:20]) or "nothing (it has none)"
    return f"matches no layer of {network} with a {what}.{near} Those that have one end in: {shown}."


def _no_such_layer(pattern: str, where: str, layers: Iterable[str], places: Iterable[str]) -> str:
    endings = _endings(layers)
    known = _endings([*layers, *(split_name(name)[0] for name in places)])
    if "." in pattern:
        near = nearest(pattern, known) or nearest(pattern.rpartition(".")[2], known)
    else:
        near = nearest(pattern, [*known, *PRESETS])
    if pattern in PRESETS:
        names = PRESETS[pattern]
        near = "" if pattern == ALL_LINEAR else f" It means {', '.join(names)}."
    shown = ", ".join(endings[:20]) or "nothing (it has none)"
    return f"matches no Linear or Conv2d {where}.{near} Its layers end in: {shown}."


def nothing_excluded(pattern: str, wanted: tuple[str, ...], elsewhere: tuple[str, ...]) -> str:
    """Of a pattern that takes away no target.

    Args:
        pattern: as the user gave it.
        wanted: the targets.
        elsewhere: what it matches beside them.
    """
    fault = f"exclude {pattern!r} takes away none of the {len(wanted)} targets"
    ending, parameter = split_pattern(pattern)
    others = [name for name in wanted if matches(split_name(name)[0], ending)]
    if others and parameter is None:
        return f"{fault}; '{pattern}{COLON}{BOTH}' takes away {len(others)}, such as {others[0]}."
    if elsewhere:
        more = f" and {len(elsewhere) - 1} more" if len(elsewhere) > 1 else ""
        return f"{fault}: it matches {elsewhere[0]}{more}, which are no targets. Leave it out."
    endings = _endings(wanted)
    near = nearest(pattern, endings) or nearest(pattern.rpartition(".")[2], endings)
    return f"{fault}.{near} They end in: {', '.join(endings[:20])}; the first is {wanted[0]}."


def _endings(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(ending_of, names)))
