"""Method ``lycoris``: any algorithm of LyCORIS, with every argument of its own module."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from torch import nn

from ..errors import AdapterError, ConfigError, nearest
from .config import REFUSED_ALGOS, LycorisSettings
from .options import check_options
from .peer import Attached
from .seeds import seeded

_CHILD = "lycoris"
_RESERVED = {"lora_name": "names follow from the layers", "org_module": "give lycoris.targets"}
_WHOLE = {"lora_dim", "factor", "block_size"}


def prepare(settings: LycorisSettings, seed: int) -> dict[str, Any]:
    """The options, checked.

    Raises:
        ConfigError: for an unknown algorithm, and unknown names or wrong values of options.
    """
    return check_options(settings.options, option_names(settings), _RESERVED, "lycoris.options")


def algo_names() -> list[str]:
    """The algorithms of the installed LyCORIS that may hold weight matrices, by name."""
    return sorted(name for name in _algorithms() if name not in REFUSED_ALGOS)


def _algorithms() -> dict[str, type[nn.Module]]:
    try:
        from lycoris.wrapper import network_module_dict
    except ImportError as error:
        text = "got 'lycoris', which is not installed here: pip install 'superlora-diffusion[peers]'"
        raise ConfigError(faults=[("method", text)]) from error
    return network_module_dict


def _module_class(algo: str) -> type[nn.Module]:
    names = algo_names()
    if algo not in names:
        text = f"got {algo!r}.{nearest(algo, names)} Accepted: {', '.join(names)}."
        raise ConfigError(faults=[("lycoris.algo", text)])
    return _algorithms()[algo]


def option_names(settings: LycorisSettings) -> dict[str, Any]:
    """{name: type} of everything the algorithm's module accepts. Few have types; defaults tell them."""
    arguments = inspect.signature(_module_class(settings.algo).__init__).parameters.values()
    named = [argument for argument in arguments if argument.kind is argument.POSITIONAL_OR_KEYWORD]
    return {argument.name: _kind(argument) for argument in named if argument.name != "self"}


def _kind(argument: inspect.Parameter) -> Any:
    if argument.default in (None, argument.empty):
        return Any
    kind = type(argument.default)
    return int | float if kind is int and argument.name not in _WHOLE else kind


def attach(
    network: nn.Module, settings: LycorisSettings, options: dict[str, Any], wanted: list[str], seed: int
) -> Attached:
    """Put a module of LyCORIS on each target; they become a child of the network, so that it moves them along.

    Raises:
        AdapterError: naming algorithm, layers and LyCORIS's own words, if it refuses them all.
    """
    make = _module_class(settings.algo)
    held: dict[str, nn.Module] = {}
    left_out: dict[str, str] = {}
    with seeded(network, seed), _listening() as said:
        for name in wanted:
            try:
                module = make(name.replace(".", "_"), network.get_submodule(name), **options)
            except Exception as error:  # every algorithm has errors of its own
                left_out[name] = " ".join(str(error).split()) or type(error).__name__
                continue
            if module.not_supported:
                left_out[name] = "; ".join(said) or "not supported"
            else:
                held[name] = module
    if not held:
        name, words = next(iter(left_out.items()))
        raise AdapterError(
            f"LyCORIS's {settings.algo} refuses {', '.join(settings.targets)} ({len(wanted)} layers), the first "
            f"of them {name}: {words}. Other options go into lycoris.options."
        )
    modules = nn.ModuleDict({name.replace(".", "_"): module for name, module in held.items()})
    network.add_module(_CHILD, modules)
    _switch(modules, True)
    parameters = {f"{_CHILD}.{name}": parameter for name, parameter in modules.named_parameters()}
    return Attached(
        parameters,
        f"LyCORIS {settings.algo} on {len(held)} layers",
        switch=lambda on: _switch(modules, on),
        layers=list(held),
        left_out=left_out,
        notes=[f"LyCORIS says: {line}" for line in dict.fromkeys(said)],
        versions={"lycoris-lora": metadata.version("lycoris-lora")},
    )


def _switch(modules: nn.ModuleDict, on: bool) -> None:
    for module in modules.values():
        if on:
            module.apply_to()
        else:
            module.restore()


@contextmanager
def _listening() -> Iterator[list[str]]:
    """The library's warnings as a list; it prints them, and more, on standard output, which is for results."""
    logger, said = logging.getLogger("LyCORIS"), []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                said.append(" ".join(record.getMessage().split()))

    before, logger.handlers = logger.handlers, [Listener()]
    try:
        yield said
    finally:
        logger.handlers = before
