"""What an adapter folder holds, and its JSON. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import AdapterError

FORMAT_VERSION = 1
WEIGHTS, CONFIG, PROJECTION = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "adapter_projection.safetensors",
)
FIXED = "fixed.safetensors"
"""Random state that a peer's method has and does not train."""
HEAD = "head.safetensors"
"""The layer that names the classes, where a classifier's trained beside the adapter."""
FILES = (WEIGHTS, PROJECTION, FIXED, HEAD, CONFIG)
"""All that belongs to an adapter; the config is the last to be written."""


def read_adapter_config(folder: Path | str) -> dict[str, Any]:
    """The JSON of an adapter folder.

    Raises:
        AdapterError: if it is missing, broken, another library's, or of a format this version does not know.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise AdapterError(f"{folder} is no adapter folder: it has no {CONFIG}.")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        if "format_version" not in described and "peft_type" in described:
            raise AdapterError(
                f"{path} is of an adapter by the PEFT library ({described['peft_type']}), which is not loaded as it "
                "is. Turn it into one of ours by superlora-diff import, or load it by PEFT."
            )
        version = described["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{path} is broken: {type(error).__name__}: {error}.") from error
    if version != FORMAT_VERSION:
        raise AdapterError(
            f"{path} has format version {version}; this version reads {FORMAT_VERSION}. Upgrade."
        )
    return described
