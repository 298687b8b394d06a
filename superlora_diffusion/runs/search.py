"""The settings that fit a parameter budget on a base, as command lines to train them with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from ..adapters.budget import Choice, Listing, list_settings
from ..adapters.config import SuperLoRAConfig
from ..adapters.presets import PRESETS
from ..adapters.space import FAMILIES
from ..errors import ConfigError
from ..models.config import EMBEDDED_BASE, BaseSettings
from .config import RunConfig
from .counting import TargetList, base_named, targets_on
from .loading import as_yaml_list

# What an override may say of an adapter whose setting is looked for: nothing that the list varies.
_KEPT = tuple(f"adapter.{name}" for name in ("targets", "exclude", "seed", "scale", "step", "init_std"))


@dataclass(frozen=True)
class Search:
    """What is looked for, and where."""

    budget: int
    """How many numbers may train."""
    config: RunConfig | None = None
    config_name: str | None = None
    """What the config was loaded from."""
    overrides: tuple[str, ...] = ()
    """What was overridden in it."""
    model: str | None = None
    """Where to count instead of the config's base; without both, the embedded base."""
    targets: tuple[str, ...] | None = None
    """Which weights to adapt instead of the config's."""
    families: tuple[str, ...] = FAMILIES


@dataclass(frozen=True)
class Found:
    """The listing, and how to train from it."""

    targets: TargetList
    listing: Listing
    train: str | None
    """The command that a setting's overrides are appended to; None where ``train`` does not take the base."""
    common: tuple[str, ...]
    """Overrides that every setting needs."""

    def overrides(self, choice: Choice) -> list[str]:
        """What makes a config this setting, whatever adapter the config describes."""
        return [*choice.overrides, *self.common]

    def as_dict(self, top: int) -> dict[str, Any]:
        """For JSON, the ``top`` best."""
        listing = self.listing
        return {
            "budget": listing.budget,
            "targets": self.targets.as_dict(),
            "examined": listing.examined,
            "fitting": len(listing.choices),
            "best_of_families": listing.best_of_families,
            "train": self.train,
            "settings": [self._choice_as_dict(choice) for choice in listing.choices[:top]],
        }

    def _choice_as_dict(self, choice: Choice) -> dict[str, Any]:
        return {
            "family": choice.family,
            "setting": choice.text,
            "parameters": choice.count,
            "share": choice.count / self.listing.budget,
            "formula": choice.formula.products,
            "overrides": self.overrides(choice),
        }


def search(request: Search) -> Found:
    """List the settings that fit.

    Raises:
        ConfigError: for a budget below 1, an unknown family, an override of what is looked for, or if nothing fits.
        BaseModelError, AdapterError: for a base that is not there, a target that matches nothing.
    """
    _refuse_overrides_of_the_setting(request.overrides)
    config = request.config
    own = config.adapter.targets if config else None
    patterns = SuperLoRAConfig(targets=request.targets or own or SuperLoRAConfig().targets).targets
    base = config.base if config else BaseSettings()
    if request.model is not None:
        base = base_named(request.model)
    exclude = config.adapter.exclude if config else ()
    adapter = SuperLoRAConfig(targets=patterns, exclude=exclude)
    found = targets_on(base, adapter, request.model or request.config_name)
    listing = list_settings(request.budget, found.targets, request.families, patterns, exclude)
    common = () if patterns == own else (f"adapter.targets={as_yaml_list(patterns)}",)
    return Found(found, listing, _train_command(request, base, found), common)


def _refuse_overrides_of_the_setting(overrides: tuple[str, ...]) -> None:
    for text in overrides:
        path = text.partition("=")[0].strip()
        if path.startswith("adapter.") and path not in _KEPT:
            fault = f"got {text!r} with --budget, which looks for it; leave it out, or narrow by --families."
            raise ConfigError(faults=[(path, fault)])


def _wants_one_rate(config: RunConfig | None, patterns: tuple[str, ...]) -> bool:
    """Whether settings come with the step whose rate suits any.

    Not where a rate, or a step, was chosen already, and for attention alone: other layers want a lower one.
    """
    layers = {layer for pattern in patterns for layer in PRESETS.get(pattern, (pattern,))}
    if not layers.issubset(PRESETS["attention"]):
        return False
    if config is None:
        return True
    return config.train.learning_rate is None and "step" not in config.adapter.model_fields_set


def _train_command(request: Search, base: BaseSettings, found: TargetList) -> str | None:
    if base.build is not None or found.network != "UNet2DModel" or str(base.path).endswith(".json"):
        return None
    words = ["superlora-diff", "train", "--config", request.config_name or "demo", *request.overrides]
    if not any(text.startswith("output=") for text in request.overrides):
        words.append("output=runs/mine")
    if _wants_one_rate(request.config, found.patterns):
        words.append("adapter.step=gain")
    if request.config and request.config.method != "superlora":
        words.append("method=superlora")
    if request.model is not None and (request.config or base.path != EMBEDDED_BASE):
        words.append(f"base.path={base.path}")
        if request.config and request.config.base.build is not None:
            words.append("base.build=null")
    return shlex.join(words)
