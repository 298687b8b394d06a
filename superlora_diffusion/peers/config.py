"""Settings of the peers. Imports neither torch nor the libraries: their own keys are checked when they are used."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from ..adapters.naming import Exclusions, Patterns
from ..settings import Settings

_PROMPTS = "trains prompt tokens of a language model, and a U-Net reads none"
REFUSED_TUNERS = {
    "prompt_tuning": _PROMPTS,
    "multitask_prompt_tuning": _PROMPTS,
    "p_tuning": _PROMPTS,
    "prefix_tuning": _PROMPTS,
    "adaption_prompt": _PROMPTS,
    "cpt": _PROMPTS,
    "cartridge": _PROMPTS,
    "trainable_tokens": "trains rows of a token embedding, not weight matrices",
    "shadow": "wraps the decoder blocks of a language model",
    "xlora": "mixes adapters that were trained before",
    "poly": "routes by task ids, which the network would have to be called with",
    "adalora": "moves its rank budget between layers by calls that a training loop of its own makes",
}
"""Tuners of PEFT that cannot train weight matrices of a denoising network in a plain loop, and why."""

REFUSED_ALGOS = {
    "full": "puts weights of its own in the place of the base's; method full trains them all",
    "dylora": "draws its ranks from Python's global random numbers, so that no run could be repeated",
    "tlora": "masks its ranks by the timestep, which a training loop of its own hands to it",
}
"""The same of LyCORIS."""


class _LibrarySettings(Settings):
    targets: Patterns = ("to_q", "to_v")
    """Which weights to adapt, as in an adapter's config: ends of names, wildcards or presets."""
    exclude: Exclusions = ()
    """What of the targets to leave out, said in the same way."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Any key of the library's own config, by its own name; what is left out is the library's default."""


class PeftSettings(_LibrarySettings):
    """A tuner of Hugging Face PEFT (method peft)."""

    tuner: str = "lora"
    """PEFT's own name in lower case: lora, loha, lokr, vera, fourierft, unilora, ia3, oft, boft, hra, ..."""

    @field_validator("tuner")
    @classmethod
    def _tuner_makes_sense(cls, value: str) -> str:
        return _lower(value, REFUSED_TUNERS)


class LycorisSettings(_LibrarySettings):
    """An algorithm of LyCORIS (method lycoris)."""

    algo: str = "lokr"
    """LyCORIS's own name: lora (or locon), loha, lokr, glora, ia3, diag-oft, boft."""

    @field_validator("algo")
    @classmethod
    def _algo_makes_sense(cls, value: str) -> str:
        return _lower(value, REFUSED_ALGOS)


def _lower(value: str, refused: dict[str, str]) -> str:
    name = value.strip().lower()
    if name in refused:
        raise ValueError(f"got {value!r}, which {refused[name]}.")
    return name
