"""Settings of sampling. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from ..settings import Settings

SamplerName = Literal["ddim", "ddpm", "dpm++2m", "euler", "unipc"]


DEFAULT_SAMPLER: SamplerName = "dpm++2m"


class SamplingSettings(Settings):
    """How images are drawn from a base, with or without an adapter."""

    sampler: SamplerName | None = None
    """ddim, ddpm, dpm++2m, euler or unipc: diffusers' schedulers on the base's own noise schedule. Null takes the base
    family's: euler for Stable Diffusion 3, else dpm++2m."""
    steps: int | None = Field(None, ge=1)
    """Number of denoising steps, each one network call; null takes the base family's. On pixels that is 10, which
    reaches the FID of 250 steps of ddpm, on a base and on an adapter (docs/results.md)."""
    guidance_scale: float | None = Field(None, ge=0, le=100)
    """Classifier-free guidance; 1 is none (and costs half as much). Null takes the base family's (1.5 on pixels), or 1
    where the base cannot be guided."""
    negative_prompt: str = ""
    """What a base that takes text is guided away from."""
    height: int | None = Field(None, ge=8)
    """Of the images, in pixels; null takes the base's own side."""
    width: int | None = Field(None, ge=8)
    batch_size: int = Field(100, ge=1)
    """Images drawn at once. Changes speed and memory, never the images."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Numbers the network computes in; bf16 is faster where a processor has it, and changes the images a little."""
    compile: bool = False
    """Compile the network by ``torch.compile``: a minute at the start, faster calls after it."""
    channels_last: bool = False
    """Keep images as rows of channels in memory. Changes speed, and images by rounding alone."""

    def as_measured(self) -> dict[str, Any]:
        """What images depend on by more than rounding, as a record of scores keeps it."""
        told = self.model_dump(mode="json", exclude={"batch_size", "compile", "channels_last"})
        unsaid = {"precision": "fp32", "negative_prompt": "", "height": None, "width": None}
        # As records said before there was a choice.
        return {key: value for key, value in told.items() if key not in unsaid or value != unsaid[key]}

    def filled(self, defaults: Mapping[str, Any], can_guide: bool = True) -> SamplingSettings:
        """With a base family's values where nothing is said; guidance 1 where a base cannot be guided."""
        defaults = {"sampler": DEFAULT_SAMPLER, **defaults}
        found = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        if not can_guide and self.guidance_scale is None:
            found["guidance_scale"] = 1.0
        return self.model_copy(update=found)

    @field_validator("sampler", mode="before")
    @classmethod
    def _say_why_heun_is_refused(cls, value: object) -> object:
        if value == "heun":
            raise ValueError(
                "got 'heun': it cannot start from zero terminal SNR. Use ddpm, ddim, dpm++2m, euler or unipc."
            )
        return value
