"""Bases on disk: a plain diffusers folder, and for classes a JSON file saying what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline
from torch import nn

from ..errors import BaseModelError, HubError, nearest
from ..files import write_folder_atomically, write_json
from ..hub.download import is_hub_id
from ..hub.explaining import explained
from .base import Base
from .classifier import is_classifier
from .composite import TextAndDenoiser
from .config import EMBEDDED_BASE, BaseSettings
from .copying import copy_rest
from .families import family_of_network
from .families.family import Family
from .parts import Parts, read_json

CARD = "superlora_base.json"
ASSETS = Path(__file__).parent / "assets"
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_base(settings: BaseSettings) -> Base:
    """Load a base from an embedded name, a folder or a hub id.

    Raises:
        BaseModelError: if it is missing, broken, or of no family that is known.
    """
    source = str(settings.path)
    folder = find_folder(source, settings.revision, settings.variant)
    family = find_family(folder)
    parts = Parts(folder, settings.variant)
    try:
        network = family.load_network(
            folder / family.part, torch_dtype=TYPES[settings.precision], variant=settings.variant
        )
        scheduler = family.load_scheduler(folder / "scheduler")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BaseModelError(f"base {source!r} cannot be loaded: {error}") from error
    base = Base(network, scheduler, (), None, source, family, parts)
    family.check(base)
    if family.conditioning == "class":
        card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
        base.class_names, base.null_class = _classes(settings, card, base)
    if settings.text_encoders:
        base.network = _with_text_encoders(base)
    return base


def _with_text_encoders(base: Base) -> TextAndDenoiser:
    if not base.takes_text:
        raise BaseModelError(f"base {base.name!r} takes no text, so base.text_encoders has nothing to adapt.")
    return TextAndDenoiser(base, base.family.text_pipeline(base, base.device))


def find_family(folder: Path) -> Family:
    """The family of a pipeline's folder, by its network's config.json.

    Raises:
        BaseModelError: if there is no such file, or no family drives the network.
    """
    for part in ("unet", "transformer"):
        if (folder / part / "config.json").is_file():
            break
    else:
        if is_classifier(folder):
            raise BaseModelError(
                f"{folder} is a network of transformers, which draws no images; a classifier trains by "
                "task=classification and is scored by superlora-diff eval-acc."
            )
        raise BaseModelError(
            f"{folder} is no base: it has no unet/config.json (nor transformer/config.json). Expected a diffusers "
            "pipeline folder."
        )
    config = read_json(folder / part / "config.json")
    if "quantization_config" in config:
        raise BaseModelError(
            f"{folder / part} is quantised, and the update of a weight cannot be added to packed numbers. Take the "
            "unquantised base; base.precision=bf16 halves its memory."
        )
    family = family_of_network(config, str(folder))
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise BaseModelError(
            f"{folder} has no scheduler/scheduler_config.json, so its noise schedule is unknown."
        )
    return family


def find_folder(source: str, revision: str | None = None, variant: str | None = None) -> Path:
    """The local folder of an embedded name, a folder or a hub id (downloaded into the hub's cache)."""
    if source == EMBEDDED_BASE:
        return ASSETS / EMBEDDED_BASE
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    if not is_hub_id(source):
        raise BaseModelError(
            f"base {source!r} is no folder.{nearest(source, [EMBEDDED_BASE])} Expected the embedded base "
            f"{EMBEDDED_BASE!r}, a diffusers folder (holding unet/ or transformer/, and scheduler/), or a hub id: "
            "'user/name'."
        )
    from diffusers import DiffusionPipeline

    try:
        # diffusers' own: it takes the files of the variant alone, and the login of the hub's own tools.
        with explained("base", source, revision):
            return Path(DiffusionPipeline.download(source, revision=revision, variant=variant))
    except HubError as error:
        raise BaseModelError(
            f"base {source!r} is no local folder, and the hub did not give it: {error}"
        ) from error


def _classes(settings: BaseSettings, card: dict[str, Any], base: Base) -> tuple[tuple[str, ...], int | None]:
    embeds = base.family.embedded_classes(base)
    if embeds is None:
        return (), None
    null_class = settings.null_class if settings.null_class is not None else card.get("null_class")
    if null_class is None:
        null_class = base.family.known_null_class(base)
    if null_class is not None and not 0 <= null_class < embeds:
        raise BaseModelError(
            f"base.null_class is {null_class}; base {base.name!r} has class indices 0 to {embeds - 1}."
        )
    if null_class is not None and null_class != embeds - 1:
        raise BaseModelError(
            f"base.null_class is {null_class}; only the last index ({embeds - 1}) is supported."
        )
    count = embeds - (null_class is not None)
    known = card.get("class_names") or base.family.known_class_names(base) or map(str, range(count))
    names = settings.class_names or tuple(known)
    if len(names) != count:
        raise BaseModelError(
            f"base {base.name!r} has {count} classes, but {len(names)} class names were given."
        )
    return tuple(names), null_class


def save_base(base: Base, folder: Path, card: dict[str, Any] | None = None) -> None:
    """Write a base as a plain diffusers folder; the folder appears whole or not at all.

    Args:
        base: what to write; what its pipeline has beside the denoiser is copied as it is.
        folder: where; replaced if it is there.
        card: what else to say in the JSON file beside it (data, training).
    """
    meaning = {"class_names": list(base.class_names), "null_class": base.null_class}

    def write(partial: Path) -> None:
        if base.family.name == "pixels":
            pipeline = DDPMPipeline(unet=base.network, scheduler=base.scheduler)
            pipeline.save_pretrained(partial, variant=base.parts.variant)
        else:
            networks = networks_of(base)
            copy_rest(base.parts.folder, base.parts.components, networks, partial)
            for name, part in networks.items():
                part.save_pretrained(partial / name, variant=base.parts.variant)
        told = meaning if base.family.conditioning == "class" else {}
        write_json(partial / CARD, {**told, **(card or {})})

    write_folder_atomically(folder, write)


def networks_of(base: Base) -> dict[str, nn.Module]:
    """The networks that can train, by their folders in the pipeline: the denoiser, perhaps the text encoders."""
    if not base.adapts_text:
        return {base.family.part: base.network}
    names = (base.family.part, *base.family.encoders)
    return {name: getattr(base.network, name) for name in names if hasattr(base.network, name)}
