"""The smallest classifiers that are the real thing: 8 pixels, two layers, real folders of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny import NAMES, run_values

from superlora_diffusion.models.classifier import Classifier, build_classifier
from superlora_diffusion.models.classifier_storage import save_classifier
from superlora_diffusion.models.config import VitSettings
from superlora_diffusion.runs.config import RunConfig

SIZES: dict[str, Any] = {"image_size": 8, "patch_size": 4, "hidden_size": 16, "layers": 2, "heads": 2}


def make_vit(names: tuple[str, ...] = NAMES, **sizes: Any) -> Classifier:
    """A classifier with fixed random weights, large enough that different images get different logits."""
    torch.manual_seed(7)
    classifier = build_classifier(VitSettings(**{**SIZES, **sizes}), names)
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    classifier.network.eval()
    return classifier


def write_vit(folder: Path, names: tuple[str, ...] = NAMES, **sizes: Any) -> Path:
    """The same as a folder."""
    save_classifier(make_vit(names, **sizes), folder)
    return folder


def vit_values(folder: Path, **sections: Any) -> dict[str, Any]:
    """Values of a run of six steps on the classifier ``vit`` and the data in ``folder``; sections are merged in."""
    base = {"path": str(folder / "vit"), **sections.pop("base", {})}
    values = run_values(folder, **sections)
    return {**values, "task": "classification", "base": base}


def vit_config(folder: Path, **sections: Any) -> RunConfig:
    """The same, checked."""
    return RunConfig(**vit_values(folder, **sections))
