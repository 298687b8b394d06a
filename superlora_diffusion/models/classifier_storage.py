"""Classifiers on disk: a plain folder of transformers, with the images' normalisation as its own libraries write it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..adapters.reading import HEAD
from ..adapters.storage import check_numbers, read_tensors
from ..errors import BaseModelError, HubError
from ..files import write_atomically, write_folder_atomically, write_json
from ..hub.download import download_snapshot, is_hub_id
from .classifier import Classifier, Head, name_classes, require_vit, wrap_head
from .config import EMBEDDED_BASE, BaseSettings
from .parts import no_bars, read_json
from .storage import CARD, TYPES

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
_FILES = ("*.json", "*.safetensors")
_HEAD = "classifier."


def load_classifier(settings: BaseSettings) -> Classifier:
    """Load a classifier from a folder or a hub id. One without a head (a ``ViTModel``) has no class names.

    Raises:
        BaseModelError: if it is missing, broken, or no ViT.
    """
    source = str(settings.path)
    folder = find_classifier(source, settings.revision)
    config = read_json(folder / CONFIG)
    require_vit(config, source)
    network, missing = _load_network(folder, settings, source)
    mean, std = _normalisation(folder, network.config.num_channels)
    classifier = Classifier(network, (), source, mean, std)
    wrap_head(classifier)
    if not missing:
        classifier.class_names = _class_names(settings, network.config, source)
        name_classes(network.config, classifier.class_names)
    return classifier


def find_classifier(source: str, revision: str | None = None, configs_alone: bool = False) -> Path:
    """The local folder of a classifier.

    Args:
        source: a folder, or a hub id (downloaded into the hub's cache).
        revision: of a hub id.
        configs_alone: fetch no weights.

    Raises:
        BaseModelError: if there is none.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        if source == EMBEDDED_BASE or not is_hub_id(source):
            raise BaseModelError(
                f"base {source!r} is no folder of a classifier. Expected a folder that ViTForImageClassification "
                "reads, a finished run of method full, or a hub id: 'user/name'."
            )
        try:
            folder = download_snapshot(source, revision, _FILES[:1] if configs_alone else _FILES, "base")
        except HubError as error:
            raise BaseModelError(
                f"base {source!r} is no local folder, and the hub did not give it: {error}"
            ) from error
    if not (folder / CONFIG).is_file():
        raise BaseModelError(f"{source} is no classifier: it has no {CONFIG} of a network of transformers.")
    return folder


def _load_network(folder: Path, settings: BaseSettings, source: str) -> tuple[Any, bool]:
    """The network, and whether its head's weights are not in its files."""
    from transformers import ViTForImageClassification

    try:
        with no_bars():
            network, told = ViTForImageClassification.from_pretrained(
                folder,
                dtype=TYPES[settings.precision],
                variant=settings.variant,
                output_loading_info=True,
                use_safetensors=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BaseModelError(f"base {source!r} cannot be loaded: {error}") from error
    lost = sorted(name for name in told["missing_keys"] if not name.startswith(_HEAD))
    if lost:
        raise BaseModelError(
            f"base {source!r} cannot be loaded: its files lack {lost[0]} ({len(lost)} in all)."
        )
    return network.eval(), bool(told["missing_keys"])


def _class_names(settings: BaseSettings, config: Any, source: str) -> tuple[str, ...]:
    own = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    if settings.class_names is None:
        return own
    if len(settings.class_names) != len(own):
        raise BaseModelError(
            f"base {source!r} has {len(own)} classes, but {len(settings.class_names)} class names were given."
        )
    return settings.class_names


def _normalisation(folder: Path, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel from the folder's own file; one half where it has none, as ViT was trained."""
    told = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    found = []
    for key, neutral in (("image_mean", 0.0), ("image_std", 1.0)):
        values = told.get(key, 0.5) if told.get("do_normalize", True) else neutral
        values = [values] * channels if isinstance(values, int | float) else list(values)
        if len(values) != channels:
            raise BaseModelError(
                f"{folder / PROCESSOR}: {key} has {len(values)} numbers; {channels} are expected."
            )
        found.append(tuple(map(float, values)))
    return found[0], found[1]


def save_classifier(classifier: Classifier, folder: Path, card: dict[str, Any] | None = None) -> None:
    """Write a folder that ``ViTForImageClassification.from_pretrained`` reads; it appears whole or not at all.

    Args:
        classifier: what to write.
        folder: where; replaced if it is there.
        card: what else to say in a JSON file beside it (data, training).
    """
    write_folder_atomically(folder, lambda partial: write_classifier(classifier, partial, card))


def write_classifier(classifier: Classifier, folder: Path, card: dict[str, Any] | None = None) -> None:
    """The files of :func:`save_classifier`, into a folder that is there."""
    with no_bars():
        classifier.network.save_pretrained(folder)
    write_json(folder / PROCESSOR, _processor(classifier))
    write_json(folder / CARD, {"class_names": list(classifier.class_names), **(card or {})})


def _processor(classifier: Classifier) -> dict[str, Any]:
    """transformers' ``ViTImageProcessor``: the same pixels for the same images."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": classifier.size, "width": classifier.size},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(classifier.mean),
        "image_std": list(classifier.std),
    }


def save_head(classifier: Classifier, folder: Path) -> None:
    """Write the head into an adapter's folder if it trained; otherwise none is left there."""
    numbers = classifier.head_parameters()
    if not numbers:
        (folder / HEAD).unlink(missing_ok=True)
        return
    plain = {name: value.detach().cpu().contiguous() for name, value in numbers.items()}
    write_atomically(folder / HEAD, lambda partial: save_file(plain, partial))


def load_head(classifier: Classifier, folder: Path, class_names: Sequence[str]) -> None:
    """Put the head that lies in an adapter's folder in the place of the classifier's own.

    Raises:
        AdapterError: if it is missing or broken, or does not fit the network and the names.
    """
    numbers = read_tensors(folder / HEAD)
    head = Head(classifier.network.config.hidden_size, len(class_names))
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters()}
    check_numbers(shapes, numbers, folder / HEAD)
    classifier.put_head(class_names)
    classifier.head_trains = True
    with torch.no_grad():
        for name, parameter in classifier.head.named_parameters():
            parameter.copy_(numbers[name])
