"""Bases on disk: a plain diffusers folder (``DDPMPipeline``) and a JSON file saying what its classes mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from ..errors import BaseModelError, nearest
from ..files import write_folder_atomically, write_json
from .base import Base
from .config import EMBEDDED_BASE, BaseSettings

CARD = "superlora_base.json"
ASSETS = Path(__file__).parent / "assets"


def load_base(settings: BaseSettings) -> Base:
    """Load a base from an embedded name, a folder or a hub id.

    Raises:
        BaseModelError: if it is missing, broken, or not a class-conditional or unconditional ``UNet2DModel``.
    """
    source = str(settings.path)
    folder = find_folder(source, settings.revision)
    _require_unet2d(folder)
    try:
        unet = UNet2DModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
        scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BaseModelError(f"base {source!r} cannot be loaded: {error}") from error
    _require_denoiser(unet, source)
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    names, null_class = _classes(settings, card, unet, source)
    return Base(unet, scheduler, names, null_class, name=source)


def find_folder(source: str, revision: str | None = None) -> Path:
    """The local folder of an embedded name, a folder or a hub id (downloaded into the hub's cache)."""
    if source == EMBEDDED_BASE:
        return ASSETS / EMBEDDED_BASE
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise BaseModelError(
            f"base {source!r} is no folder.{nearest(source, [EMBEDDED_BASE])} Expected the embedded base "
            f"{EMBEDDED_BASE!r}, a diffusers folder (holding unet/ and scheduler/), or a hub id: 'user/name'."
        )
    from huggingface_hub import snapshot_download

    try:
        wanted = ["*.json", "unet/*", "scheduler/*"]
        return Path(snapshot_download(source, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the hub client has no common error class; its own words are the best we have
        raise BaseModelError(
            f"base {source!r} is no local folder, and the hub did not give it "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0]})."
        ) from error


def _require_unet2d(folder: Path) -> None:
    config = folder / "unet" / "config.json"
    if not config.is_file():
        raise BaseModelError(
            f"{folder} is no base: it has no unet/config.json. Expected a diffusers pipeline folder."
        )
    kind = read_json(config).get("_class_name")
    if kind != "UNet2DModel":
        raise BaseModelError(
            f"{folder} holds a {kind}; a UNet2DModel (class-conditional or unconditional) is accepted."
        )
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise BaseModelError(
            f"{folder} has no scheduler/scheduler_config.json, so its noise schedule is unknown."
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of names and values; anything else is a BaseModelError that names the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path} is broken: {error}") from error
    if not isinstance(values, dict):
        raise BaseModelError(f"{path} is broken: it holds a {type(values).__name__}, no names and values.")
    return values


def _require_denoiser(unet: UNet2DModel, source: str) -> None:
    """Refuse networks that the loop and the producer cannot drive."""
    config = unet.config
    if config.out_channels != config.in_channels:
        raise BaseModelError(
            f"base {source!r} predicts {config.out_channels} channels from {config.in_channels}; "
            "a network that predicts as many as it sees is accepted (learned variances are not)."
        )
    side = config.sample_size
    if side is None or (not isinstance(side, int) and len(set(side)) != 1):
        raise BaseModelError(f"base {source!r} has sample_size {side!r}; the side of a square is accepted.")
    if config.class_embed_type is not None and config.num_class_embeds is None:
        raise BaseModelError(
            f"base {source!r} embeds classes by {config.class_embed_type!r}; num_class_embeds, or no classes "
            "at all, is accepted."
        )


def _classes(
    settings: BaseSettings, card: dict[str, Any], unet: UNet2DModel, source: str
) -> tuple[tuple[str, ...], int | None]:
    embeds = unet.config.num_class_embeds
    if embeds is None:
        return (), None
    null_class = settings.null_class if settings.null_class is not None else card.get("null_class")
    if null_class is not None and not 0 <= null_class < embeds:
        raise BaseModelError(
            f"base.null_class is {null_class}; base {source!r} has class indices 0 to {embeds - 1}."
        )
    if null_class is not None and null_class != embeds - 1:
        raise BaseModelError(
            f"base.null_class is {null_class}; only the last index ({embeds - 1}) is supported."
        )
    count = embeds - (null_class is not None)
    names = settings.class_names or tuple(card.get("class_names") or map(str, range(count)))
    if len(names) != count:
        raise BaseModelError(f"base {source!r} has {count} classes, but {len(names)} class names were given.")
    return tuple(names), null_class


def save_base(base: Base, folder: Path, card: dict[str, Any] | None = None) -> None:
    """Write a base as a plain diffusers folder; the folder appears whole or not at all.

    Args:
        base: what to write.
        folder: where; replaced if it is there.
        card: what else to say in the JSON file beside it (data, training).
    """
    meaning = {"class_names": list(base.class_names), "null_class": base.null_class}

    def write(partial: Path) -> None:
        DDPMPipeline(unet=base.network, scheduler=base.scheduler).save_pretrained(partial)
        write_json(partial / CARD, {**meaning, **(card or {})})

    write_folder_atomically(folder, write)
