"""Classifiers with an adapter's update, as transformers and PEFT read them; a head that was trained goes along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..adapters.module import SuperLoRA
from ..errors import ConfigError
from ..files import write_folder_atomically, write_json, write_text
from ..models.classifier import Classifier
from ..models.classifier_storage import write_classifier
from .factors import Pair
from .merging import CARD, NOTE, describe_merge, merged, settings_table
from .writing import write_peft_folder

FORMATS = ("peft", "merged")


def require_format(format: str) -> None:
    """Refuse formats of tools that draw images.

    Raises:
        ConfigError: naming those that serve.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"format {format} is for pipelines that draw images, and this adapter is of task classification. Use "
            "format peft (PeftModel.from_pretrained(network, folder)), or merged (a whole classifier)."
        )


def write_merged_classifier(
    classifier: Classifier, adapter: SuperLoRA, out: Path, origin: Mapping[str, Any]
) -> Path:
    """Write the classifier with merged weights; it appears whole or not at all.

    Args:
        classifier: with the adapter attached.
        adapter: at the scale it shall be merged with.
        out: the new folder, for ``ViTForImageClassification.from_pretrained``.
        origin: what to note down of base and adapter.
    """
    note = describe_merge(adapter, origin)

    def write(partial: Path) -> None:
        with merged(adapter):
            write_classifier(classifier, partial)
        write_json(partial / NOTE, note)
        write_text(partial / CARD, _card(out.name, note))

    write_folder_atomically(out, write)
    return out


def write_peft_classifier(
    classifier: Classifier, pairs: Mapping[str, Pair], out: Path, base: str | None
) -> Path:
    """Write a folder for ``PeftModel.from_pretrained(ViTForImageClassification, out)``.

    Args:
        classifier: what the adapter is attached to.
        pairs: factors by the name of the module in the backbone.
        out: the new folder.
        base: what the base is called.

    Raises:
        ConfigError: if PEFT is not installed.
    """
    inside = {f"{classifier.network.base_model_prefix}.{name}": pair for name, pair in pairs.items()}
    head = {name: value.detach().cpu() for name, value in classifier.head_parameters().items()}
    whole = {"classifier": head} if head else None
    write_folder_atomically(out, lambda partial: write_peft_folder(inside, partial, base, whole))
    return out


def _card(name: str, note: Mapping[str, Any]) -> str:
    return f"""---
library_name: transformers
pipeline_tag: image-classification
tags: [superlora]
---
# {name}

The classifier `{note.get("base")}` with a SuperLoRA adapter (`{note.get("adapter")}`) merged into its weights by
superlora-diffusion {note["library_version"]}: {note["parameters"]:,} trained numbers, {len(note["targets"])} weights
changed, scale {note["scale"]:g}. Load it with transformers alone:

```python
from transformers import AutoImageProcessor, ViTForImageClassification
network = ViTForImageClassification.from_pretrained("path/to/this/folder")
processor = AutoImageProcessor.from_pretrained("path/to/this/folder")
```

The base's licence holds for this classifier, too.

{settings_table(note["config"])}
"""
