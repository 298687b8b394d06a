"""Settings of sampling. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from ..settings import Settings

SamplerName = Literal["ddim", "ddpm", "dpm++2m", "euler", "unipc"]


class SamplingSettings(Settings):
    """How images are drawn from a base, with or without an adapter."""

    sampler: SamplerName = "dpm++2m"
    """ddim, ddpm, dpm++2m, euler or unipc: diffusers' schedulers on the base's own noise schedule."""
    steps: int = Field(10, ge=1)
    """Number of denoising steps, each one network call. The default reaches the FID of 250 steps of ddpm, on a base and
    on an adapter (docs/results.md)."""
    guidance_scale: float = Field(1.5, ge=0, le=100)
    """Classifier-free guidance; 1 is none (and costs half as much)."""
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
        if told["precision"] == "fp32":
            del told["precision"]  # as records said before there was a choice
        return told

    @field_validator("sampler", mode="before")
    @classmethod
    def _say_why_heun_is_refused(cls, value: object) -> object:
        if value == "heun":
            raise ValueError(
                "got 'heun': it cannot start from zero terminal SNR. Use ddpm, ddim, dpm++2m, euler or unipc."
            )
        return value
