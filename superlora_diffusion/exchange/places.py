"""Where a target lies in a pipeline: which of its networks, and which module there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ..adapters.module import SuperLoRA
from ..errors import BaseModelError
from ..models.parts import INDEX, components_of

DENOISERS = ("unet", "transformer")
PARTS = (*DENOISERS, "text_encoder", "text_encoder_2", "text_encoder_3")


class Place(NamedTuple):
    """A module of one network of a pipeline."""

    part: str
    """The pipeline's name of the network: unet, transformer, text_encoder, ..."""
    module: str


def parts_of(network: nn.Module) -> dict[str, nn.Module]:
    """The networks an adapter is attached to, by the pipeline's names: mostly one, the denoiser.

    A module whose children are all called like parts of a pipeline is a composite of them.
    """
    children = {name: child for name, child in network.named_children() if not isinstance(child, SuperLoRA)}
    if children and set(children) <= set(PARTS):
        return children
    return {"unet" if "UNet" in type(network).__name__ else "transformer": network}


def place_of(network: nn.Module, target: str) -> Place:
    """The place of a target of an adapter on ``network``."""
    parts = parts_of(network)
    if next(iter(parts.values())) is network:
        return Place(next(iter(parts)), target)
    return Place(*target.split(".", 1))


def target_of(network: nn.Module, place: Place) -> str:
    """The other way round: what a place's module is called on ``network``."""
    return place.module if parts_of(network).get(place.part) is network else ".".join(place)


class Pipeline(NamedTuple):
    """A pipeline folder: its class, and which component each of its subfolders holds."""

    folder: Path
    name: str
    components: dict[str, tuple[str, str]]
    """{folder: (library, class)}, empty slots left out."""

    @property
    def kind(self) -> type | None:
        """The pipeline's class in diffusers, where it has one of this name."""
        import diffusers

        found = getattr(diffusers, self.name, None)
        return found if isinstance(found, type) else None

    @property
    def has_lora_loader(self) -> bool:
        """Whether diffusers loads LoRA files into it."""
        return all(hasattr(self.kind, name) for name in ("load_lora_weights", "save_lora_weights"))


def read_pipeline(folder: Path | str) -> Pipeline:
    """Read what a pipeline folder holds.

    Raises:
        BaseModelError: if it has no readable model_index.json.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise BaseModelError(f"{folder} is no pipeline folder: it has no {INDEX}.")
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        name = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseModelError(f"{path} is broken: {type(error).__name__}: {error}.") from error
    return Pipeline(Path(folder), name if isinstance(name, str) else str(name[-1]), components_of(index))
