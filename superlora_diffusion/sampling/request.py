"""What ``sample`` was asked for. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..settings import Settings


class SampleRequest(Settings):
    """Which images, how, and in which form.

    Raises:
        ConfigError: listing every fault.
    """

    classes: str | None = None
    """Class names or indices with commas between; None for all."""
    prompts: tuple[str, ...] = ()
    """What a base that takes text is asked for."""
    count: int | None = Field(None, ge=1)
    """Number of images, going round the classes or prompts; None for eight of each class, four of each prompt."""
    seed: int = Field(0, ge=0)
    sampling: dict[str, Any] = Field(default_factory=dict)
    """Values that win over the run's sampling settings."""
    scale: float | None = Field(None, allow_inf_nan=False)
    """Run-time scale of the adapter's update."""
    merge: bool = False
    format: Literal["grid", "png", "npz"] = "grid"
