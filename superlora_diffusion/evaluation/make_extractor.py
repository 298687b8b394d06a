"""``extractor train``: from a data set's name to a folder that is an extractor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.data.records import ImageSet
from superlora_diffusion.errors import ConfigError, EvaluationError
from superlora_diffusion.evaluation.digits_net import INPUT_SIZE, PREPROCESSING
from superlora_diffusion.evaluation.extractor_training import (
    WORKING_SIZE,
    TrainingOptions,
    as_pictures,
    draw_from,
    measure,
    train_net,
)
from superlora_diffusion.evaluation.extractors import load_extractor
from superlora_diffusion.evaluation.trained_extractor import CARD, half_weights, read_card, write_trained
from superlora_diffusion.files import write_folder_atomically
from superlora_diffusion.runs.folder import library_versions


def make_extractor(
    data: DataConfig,
    folder: Path,
    options: TrainingOptions,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> tuple[dict[str, Any], bool]:
    """Train an extractor on a labelled set, measure it on the held-out images and write it whole or not at all.

    Returns:
        its card, and whether it was trained (False: it lay there already, made of the same data in the same way).

    Raises:
        ConfigError: the folder holds something else.
        DataError: the data are missing or broken.
        EvaluationError: they have fewer than two classes.
    """
    train, test = (load_image_set(data, split) for split in ("train", "test"))
    if len(train.class_names) < 2:
        raise EvaluationError(
            f"{train.name} has the one class {train.class_names[0]!r}; an extractor tells at least two apart."
        )
    made_of = _made_of(train, test, options)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        return _same_again(folder, made_of), False
    net = train_net(
        draw_from(as_pictures(train, WORKING_SIZE), options.batch), len(train.class_names), options, on_step
    )
    weights, card = half_weights(net), {"name": folder.resolve().name, **made_of}

    def write(partial: Path) -> None:
        write_trained(partial, weights, card)
        # Measured on the stored file, so that half precision is part of what is measured.
        extractor = load_extractor(str(partial))
        small, (large, _) = as_pictures(test, INPUT_SIZE), as_pictures(test, WORKING_SIZE)
        card.update(hash=extractor.hash, parameters=sum(p.numel() for p in net.parameters()))
        card.update(held_out=measure(extractor, small, large, options.seed), libraries=library_versions())
        write_trained(partial, weights, card)

    write_folder_atomically(folder, write)
    return card, True


def _made_of(train: ImageSet, test: ImageSet, options: TrainingOptions) -> dict[str, Any]:
    """What decides about the weights."""
    return {
        "class_names": list(train.class_names),
        "preprocessing": PREPROCESSING,
        "data": {
            "name": train.name,
            "train": {"images": len(train), "content_hash": train.content_hash},
            "test": {"images": len(test), "content_hash": test.content_hash},
        },
        "training": options.described(),
    }


def _same_again(folder: Path, made_of: dict[str, Any]) -> dict[str, Any]:
    """The card of a folder that holds just what was asked for."""
    if not (folder / CARD).is_file():
        raise ConfigError(f"{folder} is there already and is no extractor; give another folder.")
    card = read_card(folder)
    changed = [key for key, value in made_of.items() if card.get(key) != value]
    if changed:
        raise ConfigError(
            f"{folder} holds an extractor that differs in: {', '.join(changed)}. Give another folder, or delete it."
        )
    return card
