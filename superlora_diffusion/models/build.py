"""A fresh base from settings."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from diffusers import DDPMScheduler, UNet2DModel

from ..errors import ConfigError, nearest
from .base import Base
from .config import BuildSettings


def build_base(settings: BuildSettings, class_names: tuple[str, ...] = ()) -> Base:
    """Build a randomly initialised base (torch's global generator decides the weights).

    Args:
        settings: the U-Net's arguments, classes and noise schedule.
        class_names: the data's classes, used where the settings name none.

    Raises:
        ConfigError: for an argument ``UNet2DModel`` does not know or does not accept.
    """
    names = settings.class_names if settings.class_names is not None else class_names
    unet = build_unet(settings, names)
    scheduler = DDPMScheduler(**settings.noise_schedule.model_dump())
    null_class = len(names) if names and settings.null_class else None
    return Base(unet, scheduler, tuple(names), null_class, name="fresh")


def build_unet(settings: BuildSettings, class_names: Sequence[str] = ()) -> UNet2DModel:
    """The network alone, on the default device ("meta" gives shapes without memory).

    Raises:
        ConfigError: for an argument ``UNet2DModel`` does not know or does not accept.
    """
    accepted = [name for name in inspect.signature(UNet2DModel.__init__).parameters if name != "self"]
    unknown = [name for name in settings.unet if name not in accepted]
    if unknown:
        texts = [
            f"unknown name {name!r}.{nearest(name, accepted)} Accepted: {', '.join(accepted)}."
            for name in unknown
        ]
        raise ConfigError(
            faults=[(f"base.build.unet.{name}", text) for name, text in zip(unknown, texts, strict=True)]
        )
    arguments = dict(settings.unet)
    if class_names:
        arguments["num_class_embeds"] = len(class_names) + int(settings.null_class)
    try:
        return UNet2DModel(**arguments)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ConfigError(
            faults=[("base.build.unet", f"UNet2DModel does not accept this: {error}")]
        ) from error
