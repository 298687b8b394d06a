"""Names of LoRA tensors in the files of other tools.

diffusers: ``unet.<module>.lora_A.weight`` (down) and ``lora_B`` (up). kohya: the module's name with underscores behind
a prefix for its network, ``lora_unet_..``, ``lora_te_..`` (``te1``, ``te2`` where there are several text encoders).
A Stable Diffusion 3 transformer is ``lora_transformer_..``: its modules under diffusers' names, as OneTrainer writes
and ComfyUI reads them; ``lora_unet_..`` there means names of the original code with queries, keys and values fused.
"""

from __future__ import annotations

from collections.abc import Iterable

from .places import Place

KOHYA_PREFIXES = {
    "lora_unet": "unet",
    "lora_transformer": "transformer",
    "lora_te": "text_encoder",
    "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2",
    "lora_te3": "text_encoder_3",
}
_TEXT_MODEL = "text_model."
_INSIDE_TEXT_MODEL = ("embeddings.", "encoder.", "final_layer_norm")


def file_module(place: Place) -> str:
    """The module as files name it: a CLIP's layers under ``text_model.``, which newer transformers leave out."""
    is_t5 = place.module.startswith("encoder.block.")
    if place.part.startswith("text_encoder") and place.module.startswith(_INSIDE_TEXT_MODEL) and not is_t5:
        return _TEXT_MODEL + place.module
    return place.module


def kohya_name(place: Place, parts: Iterable[str]) -> str:
    """The name of a module in a kohya file.

    Args:
        place: where it is.
        parts: all networks of the pipeline: a lone text encoder is te, the first of several te1.
    """
    prefixes = {part: prefix for prefix, part in KOHYA_PREFIXES.items() if prefix != "lora_te1"}
    prefix = prefixes[place.part]
    if prefix == "lora_te" and "text_encoder_2" in set(parts):
        prefix = "lora_te1"
    return f"{prefix}_{file_module(place).replace('.', '_')}"
