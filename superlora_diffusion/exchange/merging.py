"""A pipeline with an adapter's update in its weights: a folder that diffusers loads without this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from .. import __version__
from ..adapters.module import SuperLoRA
from ..errors import BaseModelError
from ..files import write_folder_atomically, write_json, write_text
from ..models.copying import BASE_CARD, CARD, copy_rest
from .places import Pipeline, parts_of

NOTE = "superlora_merge.json"


@contextmanager
def merged(adapter: SuperLoRA) -> Iterator[None]:
    """The adapter's update in the weights, for the block; afterwards they are what they were, bit for bit."""
    was_merged = adapter.is_merged
    adapter.merge()
    try:
        yield
    finally:
        if not was_merged:
            adapter.unmerge()


def write_merged(
    network: nn.Module,
    adapter: SuperLoRA,
    pipeline: Pipeline,
    out: Path,
    origin: Mapping[str, Any],
    variant: str | None = None,
) -> Path:
    """Write the pipeline with merged weights; it appears whole or not at all.

    Args:
        network: with the adapter attached, as the pipeline holds it, or a composite of its networks.
        adapter: at the scale it shall be merged with.
        pipeline: where all other components are copied from, as they are.
        out: the new folder.
        origin: what to note down of base and adapter.
        variant: of the base's files, which the merged ones are named by, too, so that all are loaded alike.

    Raises:
        BaseModelError: if the pipeline lacks a component that its index names, or has no such network.
    """
    parts = parts_of(network)
    _require_components(pipeline, parts)

    def write(partial: Path) -> None:
        copy_rest(pipeline.folder, pipeline.components, parts, partial)
        with merged(adapter):
            for part, child in parts.items():
                child.save_pretrained(partial / part, variant=variant)
        note = describe_merge(adapter, origin)
        write_json(partial / NOTE, note)
        write_text(partial / CARD, _card(out.name, note, variant))

    write_folder_atomically(out, write)
    return out


def _require_components(pipeline: Pipeline, parts: Mapping[str, nn.Module]) -> None:
    unknown = sorted(set(parts) - set(pipeline.components))
    if unknown:
        known = ", ".join(pipeline.components)
        raise BaseModelError(
            f"{pipeline.folder} has no {unknown[0]}; it is a {pipeline.name} with {known}. Is this the right base?"
        )
    missing = sorted(
        name for name in set(pipeline.components) - set(parts) if not (pipeline.folder / name).is_dir()
    )
    if missing:
        raise BaseModelError(
            f"{pipeline.folder} lacks {', '.join(missing)}, which its model_index.json names; a merged pipeline "
            "needs every component. Download the whole base and name its folder with --base."
        )


def describe_merge(adapter: SuperLoRA, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What is noted down beside merged weights."""
    return {
        "library_version": __version__,
        **origin,
        "scale": adapter.scale,
        "parameters": adapter.num_parameters,
        "targets": [target.name for target in adapter.targets],
        "config": adapter.config.model_dump(mode="json"),
    }


def _card(name: str, note: Mapping[str, Any], variant: str | None) -> str:
    option = f', variant="{variant}"' if variant else ""
    return f"""---
library_name: diffusers
tags: [superlora, diffusers]
---
# {name}

The base `{note.get("base")}` with a SuperLoRA adapter (`{note.get("adapter")}`) merged into its weights by
superlora-diffusion {note["library_version"]}: {note["parameters"]:,} trained numbers, {len(note["targets"])} weights
changed, scale {note["scale"]:g}. All other components are the base's. Load it with diffusers alone:

```python
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder"{option})
```

The base's licence holds for this pipeline, too; the base's own card, where it has one, is `{BASE_CARD}`.

{settings_table(note["config"])}
"""


def settings_table(config: Mapping[str, Any]) -> str:
    """The settings of an adapter that have a value, as Markdown."""
    rows = (f"| {key} | {value} |" for key, value in config.items() if value is not None)
    return "\n".join(["| setting | value |", "| --- | --- |", *rows])
