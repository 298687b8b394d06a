"""The folder of an extractor that a user trained: weights, and a card that says what they know and how well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.digits_net import PREPROCESSING, DigitsNet

WEIGHTS = "extractor.safetensors"
CARD = "extractor.json"


def half_weights(net: DigitsNet) -> dict[str, Tensor]:
    """What is stored: half precision, which costs no measured accuracy."""
    return {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in net.state_dict().items()
    }


def write_trained(folder: Path, weights: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Both files into an existing folder."""
    from safetensors.torch import save_file

    save_file(weights, folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a trained extractor.

    Raises:
        EvaluationError: there is none, or it says nothing that fits.
    """
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        names = card["class_names"]
        fits = card["preprocessing"] == PREPROCESSING and isinstance(card["name"], str)
        fits = fits and isinstance(names, list) and len(names) > 0 and all(isinstance(n, str) for n in names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{path}: no card of an extractor could be read ({type(error).__name__}: {error}). Give a folder that "
            "superlora-diff extractor train wrote, or train one."
        ) from error
    if not fits:
        raise EvaluationError(
            f"{path}: this extractor prepares its images otherwise, or names no classes. Train it anew with "
            "superlora-diff extractor train."
        )
    return card


def read_trained(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and weights, checked against each other.

    Raises:
        EvaluationError: a file is missing or damaged, or they do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card, file = read_card(folder), folder / WEIGHTS
    try:
        stored = load_file(file)
        DigitsNet(len(card["class_names"])).load_state_dict(stored)
    except (OSError, SafetensorError, RuntimeError) as error:
        text = (str(error).splitlines() or [""])[0]
        raise EvaluationError(
            f"{file}: no weights of this extractor could be read ({type(error).__name__}: {text}). Train it anew "
            "with superlora-diff extractor train."
        ) from error
    if not all(bool(torch.isfinite(value).all()) for value in stored.values()):
        raise EvaluationError(f"{file}: holds numbers that are not finite. Train it anew.")
    return card, stored
