"""Settings of a base: where it comes from, or how a fresh one is built. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ..errors import ConfigError
from ..settings import Settings

EMBEDDED_BASE = "synthdigits-16"
# What must be remembered of a base that does not say it itself, to read it again in the same way.
FOREIGN_BASE_FIELDS = ("revision", "variant", "precision", "text_encoders", "null_class", "class_names")


class NoiseScheduleSettings(Settings):
    """The noise schedule of a fresh base (the names of diffusers' ``DDPMScheduler``).

    The default, v-prediction with zero terminal SNR and trailing spacing, is what lets frozen
    attention layers change the global colour of images (Lin et al. 2023, arXiv 2305.08891).
    """

    num_train_timesteps: int = Field(1000, ge=2)
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    prediction_type: Literal["v_prediction", "epsilon"] = "v_prediction"
    rescale_betas_zero_snr: bool = True
    timestep_spacing: Literal["trailing", "leading", "linspace"] = "trailing"

    @model_validator(mode="after")
    def _zero_snr_needs_v(self) -> NoiseScheduleSettings:
        if self.rescale_betas_zero_snr and self.prediction_type == "epsilon":
            text = (
                "got true with prediction_type 'epsilon': pure noise says nothing of it; use 'v_prediction'."
            )
            raise ConfigError(faults=[("rescale_betas_zero_snr", text)])
        return self


class VitSettings(Settings):
    """A fresh vision transformer (Dosovitskiy et al. 2020, arXiv 2010.11929), by transformers."""

    image_size: int = Field(32, ge=2)
    """Side of the square images, in pixels."""
    patch_size: int = Field(4, ge=1)
    """Side of a patch; it divides the image's."""
    channels: Literal[1, 3] = 3
    """Of the images: grey or RGB."""
    hidden_size: int = Field(192, ge=1)
    """Numbers of a token."""
    layers: int = Field(6, ge=1)
    heads: int = Field(3, ge=1)
    """Attention heads; they divide the hidden size."""
    mlp_ratio: float = Field(4.0, gt=0)
    """Width of the MLPs, in hidden sizes."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of activations that are dropped while it trains."""

    @model_validator(mode="after")
    def _parts_divide(self) -> VitSettings:
        faults = []
        if self.image_size % self.patch_size:
            faults.append(("patch_size", f"got {self.patch_size}, which does not divide {self.image_size}."))
        if self.hidden_size % self.heads:
            faults.append(("heads", f"got {self.heads}, which do not divide hidden_size {self.hidden_size}."))
        if faults:
            raise ConfigError(faults=faults)
        return self


class BuildSettings(Settings):
    """A fresh network: a class-conditional ``UNet2DModel``, or for task classification a vision transformer."""

    unet: dict[str, Any] | None = None
    """Arguments of diffusers' ``UNet2DModel`` (``num_class_embeds`` is set from the classes)."""
    vit: VitSettings | None = None
    """A vision transformer's sizes."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes; null takes the data's."""
    null_class: bool = True
    """Whether one more class stands for "no class", which guidance needs."""
    noise_schedule: NoiseScheduleSettings = NoiseScheduleSettings()

    @model_validator(mode="after")
    def _one_network(self) -> BuildSettings:
        if (self.unet is None) == (self.vit is None):
            came = "neither" if self.unet is None else "both"
            raise ConfigError(faults=[("", f"got {came} of unet and vit: give exactly one of them.")])
        return self


class BaseSettings(Settings):
    """Which base is used: an embedded name, a diffusers folder, a hub id, or a fresh one.

    A folder or hub id is a pipeline of diffusers with a UNet2DModel, DiT, Stable Diffusion 1, 2, XL or 3; for task
    classification a ViT of transformers.
    """

    path: str | None = EMBEDDED_BASE
    """The embedded base's name, a diffusers folder, or a hub id such as "user/name"."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    variant: str | None = None
    """Variant of the weights' files, such as fp16."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numbers in which the frozen denoiser is held; an adapter's own are always fp32."""
    text_encoders: bool = False
    """Adapt the text encoders, too: targets are then looked for in them as well, named as in the pipeline
    (text_encoder.text_model..., and the denoiser's unet...)."""
    null_class: int | None = Field(None, ge=0)
    """Class index that means "no class", for a base that does not say so itself."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, for a base that does not say so itself."""
    build: BuildSettings | None = None
    """Build a fresh base with these settings instead of loading one (set ``path: null``)."""

    @model_validator(mode="after")
    def _one_source(self) -> BaseSettings:
        if (self.build is None) == (self.path is None):
            joined = "and" if self.build else "without"
            text = (
                f"got path {self.path!r} {joined} build: give exactly one of the two (path: null with build)."
            )
            raise ConfigError(faults=[("path", text)])
        return self
