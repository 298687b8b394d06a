"""Method ``peft``: any tuner of Hugging Face PEFT, with every key of its own config."""

from __future__ import annotations

import dataclasses
import re
import typing
import warnings
from importlib import metadata
from typing import Any

from torch import nn

from ..adapters.naming import ends_in, is_plain, shortest_patterns
from ..errors import AdapterError, ConfigError, nearest
from .config import REFUSED_TUNERS, PeftSettings
from .options import check_options
from .peer import Attached
from .seeds import seed_for, seeded

_NAME = "default"
_BOOK_KEEPING = "it is PEFT's own book-keeping"
_RESERVED = {
    "target_modules": "give peft.targets",
    "peft_type": "give peft.tuner",
    "task_type": _BOOK_KEEPING,
    "inference_mode": _BOOK_KEEPING,
    "auto_mapping": _BOOK_KEEPING,
    "base_model_name_or_path": _BOOK_KEEPING,
    "revision": _BOOK_KEEPING,
    "peft_version": _BOOK_KEEPING,
    "generator_seed": "every training step is seeded by the run's seed",
    "alora_invocation_tokens": "it looks for tokens in a text, and a U-Net reads none",
    "monteclora_config": "its loss has a term that a training loop of its own adds",
    "use_qalora": "it is for weights that GPTQ quantised",
    "arrow_config": "it routes between adapters that were trained before",
}
_OWN_LOOP = "it works by calls that a training loop of its own makes"
_REFUSED_VALUES = {
    ("use_asa", True): _OWN_LOOP,
    ("init_lora_weights", "eva"): "it starts from activations that a pass over data collects first",
}
# What a tuner cannot do without and cannot guess for a network that is no transformer of its list.
_FILLED = {"ia3": {"feedforward_modules": []}}


def prepare(settings: PeftSettings, seed: int) -> Any:
    """PEFT's own config object.

    Raises:
        ConfigError: for an unknown tuner, and unknown names or wrong values of options.
    """
    config_class = _config_class(settings.tuner)
    accepted = _accepted(config_class)
    options = check_options(settings.options, accepted, _RESERVED, "peft.options")
    for (name, value), why in _REFUSED_VALUES.items():
        if options.get(name) == value and name in options:
            raise ConfigError(faults=[(f"peft.options.{name}", f"got {value!r}, which cannot be: {why}.")])
    values = {"target_modules": list(settings.targets), **_FILLED.get(settings.tuner, {})}
    values.update({name: seed_for(name, seed) for name in accepted if _is_seed(name)})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return config_class(**{**values, **options})
    except (ValueError, TypeError, ImportError) as error:
        text = f"PEFT's {settings.tuner} refuses them: {_words(error)}"
        raise ConfigError(faults=[("peft.options", text)]) from error


def tuner_names() -> list[str]:
    """The tuners of the installed PEFT that may hold weight matrices, by name."""
    _require_peft()
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING as TUNERS

    return sorted(kind.value.lower() for kind in TUNERS if kind.value.lower() not in REFUSED_TUNERS)


def _require_peft() -> None:
    try:
        import peft  # noqa: F401
    except ImportError as error:
        text = "got 'peft', which is not installed here: pip install 'superlora-diffusion[peers]'"
        raise ConfigError(faults=[("method", text)]) from error


def _config_class(tuner: str) -> type:
    names = tuner_names()
    if tuner not in names:
        text = f"got {tuner!r}.{nearest(tuner, names)} Accepted: {', '.join(names)}."
        raise ConfigError(faults=[("peft.tuner", text)])
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS

    return CONFIGS[PeftType(tuner.upper())]


def _accepted(config_class: type) -> dict[str, Any]:
    """{name: type} of a config's fields."""
    try:
        types = typing.get_type_hints(config_class)
    except (NameError, TypeError):  # a type that only a type checker imports
        types = {}
    return {field.name: types.get(field.name, Any) for field in dataclasses.fields(config_class)}


def _is_seed(name: str) -> bool:
    """Whether a field is a seed of frozen random state; where the user gives none, the run's seed decides."""
    return (name.endswith("seed") or name == "projection_prng_key") and name not in _RESERVED


def attach(network: nn.Module, settings: PeftSettings, config: Any, wanted: list[str], seed: int) -> Attached:
    """Let PEFT put its layers into the network.

    Raises:
        AdapterError: naming tuner, layers and PEFT's own words, if it refuses.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING as TUNERS

    said: list[warnings.WarningMessage]
    if settings.exclude or not all(map(is_plain, settings.targets)):
        config.target_modules = _in_words_of_peft(wanted, network)
    try:
        with seeded(network, seed), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            # Not inject_adapter_in_model, which refuses tuners that share state between layers: the tuner holds it.
            tuner = TUNERS[config.peft_type](network, config, _NAME)
    except Exception as error:  # every tuner has errors of its own
        raise AdapterError(_refusal(network, settings, wanted, error)) from error
    held = [name for name in wanted if name in set(tuner.targeted_module_names)]
    trained = {name: value for name, value in network.named_parameters() if value.requires_grad}
    if len(trained) != sum(value.requires_grad for value in tuner.parameters()):
        raise AdapterError(
            f"PEFT's {settings.tuner} keeps numbers outside the network, which would not move with it."
        )
    return Attached(
        trained,
        f"PEFT {settings.tuner} on {len(held)} layers{_beside(trained)}",
        switch=lambda on: _switch(tuner, on),
        layers=held,
        left_out={name: "PEFT does not adapt it with these options" for name in set(wanted) - set(held)},
        notes=_library_notes(said),
        versions={"peft": metadata.version("peft")},
    )


def _in_words_of_peft(wanted: list[str], network: nn.Module) -> set[str] | str:
    """Exactly these layers: endings of names, by which some tuners share state, or else an expression."""
    names = [name for name, _ in network.named_modules()]
    endings = shortest_patterns(wanted, names)
    found = {name for name in names if any(ends_in(name, ending) for ending in endings)}
    return set(endings) if found == set(wanted) else "|".join(map(re.escape, wanted))


def _beside(trained: dict[str, nn.Parameter]) -> str:
    """What options such as ``bias: all`` or ``modules_to_save`` train of the network itself, in words."""
    own = [name for name in trained if "modules_to_save" in name or _NAME not in name.split(".")]
    return f" and {len(own)} tensors of the network itself ({own[0]}, ...)" if own else ""


def _switch(tuner: Any, on: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that trained biases stay: they are put back by us
        if on:
            tuner.enable_adapter_layers()
        else:
            tuner.disable_adapter_layers()


def _refusal(network: nn.Module, settings: PeftSettings, wanted: list[str], error: Exception) -> str:
    shapes = {
        tuple(network.get_parameter(f"{name}.weight").shape) for name in wanted if _still(network, name)
    }
    described = ", ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
    return (
        f"PEFT's {settings.tuner} refuses {', '.join(settings.targets)} ({len(wanted)} layers of {described}): "
        f"{_words(error)} Other options go into peft.options."
    )


def _still(network: nn.Module, name: str) -> bool:
    return hasattr(network.get_submodule(name), "weight")


def _words(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith((".", "!")) else f"{text}."


def _library_notes(said: list[warnings.WarningMessage]) -> list[str]:
    told = (message for message in said if issubclass(message.category, UserWarning | RuntimeWarning))
    lines = (" ".join(str(message.message).split()) for message in told)
    # BOFT tries to compile a kernel when it is imported; without one it computes the same.
    return [f"PEFT says: {line}" for line in dict.fromkeys(lines) if "CUDA extension" not in line]
