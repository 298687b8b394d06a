"""Networks as shapes alone: built from their config on the meta device, no weights read and no memory taken."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn

from ..errors import BaseModelError, HubError, nearest
from ..hub.download import download_snapshot, is_hub_id
from .build import build_unet
from .classifier import backbone_of, vit_config
from .config import EMBEDDED_BASE, BaseSettings, BuildSettings
from .families import family_of_network
from .families.family import Family
from .families.pixels import FAMILY as PIXELS
from .parts import read_json
from .storage import ASSETS, find_family, find_folder

CONFIG = "config.json"
# Where a pipeline keeps its denoiser; a folder that is a network itself has the config at its top.
_PLACES = (f"unet/{CONFIG}", f"transformer/{CONFIG}", CONFIG)
_KINDS = (
    "a UNet2DModel, UNet2DConditionModel, DiTTransformer2DModel or another network of diffusers, or a ViT"
)


def network_on_meta(base: BaseSettings) -> nn.Module:
    """The denoising network of a base, or a classifier's backbone, its parameters without storage.

    Args:
        base: an embedded name, a diffusers folder (of a pipeline or a network), a config.json, a hub id (its config
            alone is downloaded), or a fresh network.

    Raises:
        BaseModelError: if it is missing, broken, or no network of diffusers.
        ConfigError: for a fresh network's faulty arguments.
    """
    with torch.device("meta"):
        if base.build is not None:
            return _fresh(base.build)
        path = find_network_config(str(base.path), base.revision)
        denoiser = _from_config(path)
        return _with_encoders(denoiser, path) if base.text_encoders else denoiser


def _fresh(settings: BuildSettings) -> nn.Module:
    if settings.vit is not None:
        return backbone_of(vit_config(settings.vit))
    return build_unet(settings, settings.class_names or ())


def _with_encoders(denoiser: nn.Module, path: Path) -> nn.Module:
    """Denoiser and text encoders, called as in the pipeline."""
    family = family_of_network(dict(denoiser.config), str(path))
    parts = {family.part: denoiser}
    for name in getattr(family, "encoders", ()):
        beside = path.parent.parent / name / CONFIG
        if beside.is_file():
            parts[name] = _text_encoder(beside)
    return nn.ModuleDict(parts)


def _text_encoder(path: Path) -> nn.Module:
    import transformers

    config = transformers.AutoConfig.from_pretrained(path.parent)
    return getattr(transformers, config.architectures[0])._from_config(config)


def network_family(base: BaseSettings) -> Family:
    """The family of a base by its network's config alone: of a hub id nothing else is downloaded.

    Raises:
        BaseModelError: if there is no such base, or no family drives its network.
    """
    if base.build is not None:
        return PIXELS
    source = str(base.path)
    if is_hub_id(source) and not Path(source).expanduser().exists():
        path = _on_the_hub(source, base.revision)
        return family_of_network(read_json(path), source)
    return find_family(find_folder(source))


def find_network_config(source: str, revision: str | None = None) -> Path:
    """The config.json of a base's denoiser.

    Raises:
        BaseModelError: if there is none.
    """
    path = Path(source).expanduser()
    if source == EMBEDDED_BASE:
        path = ASSETS / EMBEDDED_BASE
    if path.is_file():
        return path
    if path.is_dir():
        return _inside(path)
    if not is_hub_id(source):
        raise BaseModelError(
            f"model {source!r} is neither a file nor a folder.{nearest(source, [EMBEDDED_BASE])} Expected the "
            f"embedded base {EMBEDDED_BASE!r}, a diffusers folder, a config.json, or a hub id: 'user/name'."
        )
    return _on_the_hub(source, revision)


def _inside(folder: Path) -> Path:
    for place in _PLACES:
        if (folder / place).is_file():
            return folder / place
    raise BaseModelError(f"{folder} holds no network: none of {', '.join(_PLACES)} is there.")


@lru_cache(maxsize=32)  # a sweep asks for its base with every cell
def _on_the_hub(source: str, revision: str | None) -> Path:
    """The configs of all parts are fetched at once: they are small, and the text encoders' may be asked for, too."""
    try:
        return _inside(download_snapshot(source, revision, [CONFIG, f"*/{CONFIG}"], "model"))
    except HubError as error:
        raise BaseModelError(
            f"model {source!r} is no local folder, and the hub gave no config: {error}"
        ) from error


def _from_config(path: Path) -> nn.Module:
    values = read_json(path)
    if values.get("model_type") == "vit":
        return _classifier_from_config(path)
    kind = values.get("_class_name")
    network = getattr(diffusers, str(kind), None)
    if not (isinstance(network, type) and issubclass(network, diffusers.ModelMixin)):
        raise BaseModelError(f"{path} describes {_described(kind, values)}; {_KINDS} is accepted.")
    try:
        return network.from_config(values)
    except Exception as error:  # any class of diffusers, each with checks of its own
        raise BaseModelError(f"{path} describes a {kind} that cannot be built: {error}") from error


def _classifier_from_config(path: Path) -> nn.Module:
    from transformers import ViTConfig

    try:
        return backbone_of(ViTConfig.from_pretrained(path))
    except Exception as error:  # whatever transformers says of values that it does not accept
        raise BaseModelError(f"{path} describes a ViT that cannot be built: {error}") from error


def _described(kind: Any, values: dict[str, Any]) -> str:
    if kind is not None:
        return f"a {kind}"
    return (
        f"a {values['model_type']} of another library" if "model_type" in values else "no class (_class_name)"
    )
