"""LoRA files of other tools as pairs of narrow matrices by name, alpha folded in.

Three steps: which tool wrote it, which tensor plays which role for which module, and what its alpha makes of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import AdapterError
from .keys import KOHYA_PREFIXES
from .places import PARTS
from .writing import PEFT_CONFIG, PEFT_WEIGHTS

DIFFUSERS_WEIGHTS = "pytorch_lora_weights.safetensors"
_DIFFUSERS_METADATA = "lora_adapter_metadata"

# Endings of a module's tensors, the longest first: what every tool calls down and up.
_ROLES = {
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".alpha": "alpha",
}
# Signs of other methods in a tensor's name, and what they are called.
_OTHER_KINDS = {
    "lora_magnitude_vector": "DoRA",
    "dora_scale": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
    "lora_mid": "LoCon with a Tucker core",
    "oft_": "OFT",
    "boft_": "BOFT",
    "ia3_": "IA3",
    "vera_lambda": "VeRA",
    "lora_embedding_": "LoRA of embeddings",
    ".bias": "LoRA with biases",
    "modules_to_save": "LoRA with modules trained whole",
    ".diff": "whole differences (LyCORIS full)",
    ".w_norm": "trained norms",
    ".b_norm": "trained norms",
    ".a1.weight": "GLoRA",
    ".b1.weight": "GLoRA",
}


class Entry(NamedTuple):
    """The LoRA of one module, as its file names it; what it adds is up @ down."""

    part: str | None
    """The network of the pipeline, where the file says."""
    module: str
    """With dots, or in kohya files with underscores."""
    up: Tensor
    down: Tensor


@dataclass(frozen=True)
class LoraFile:
    """What a file or folder of another tool holds."""

    format: str
    """diffusers, kohya or peft."""
    path: Path
    entries: tuple[Entry, ...]


def read_lora(path: Path | str) -> LoraFile:
    """Read a PEFT folder, or a file of diffusers or kohya, or a folder with one.

    Raises:
        AdapterError: if there is none, for another method than LoRA, or for tensors without their partner.
    """
    path = Path(path).expanduser()
    if (path / PEFT_CONFIG).is_file():
        return _read_peft(path)
    file = _find_file(path)
    tensors, metadata = _load(file)
    _refuse_other_kinds(tensors, file)
    kohya = [key for key in tensors if key.split("_", 1)[0] == "lora" and _kohya_part(key)]
    if kohya and len(kohya) < len(tensors):
        strange = [key for key in tensors if key not in set(kohya)]
        raise AdapterError(f"{file} holds kohya's names and {len(strange)} others: {first_few(strange)}.")
    modules = gather(tensors, file)
    if kohya:
        return LoraFile("kohya", file, tuple(_kohya_entry(name, roles) for name, roles in modules.items()))
    settings = json.loads(metadata.get(_DIFFUSERS_METADATA) or "{}")
    entries = (_diffusers_entry(name, roles, settings, file) for name, roles in modules.items())
    return LoraFile("diffusers", file, tuple(entries))


def first_few(names: list[str]) -> str:
    """Up to five names for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _find_file(path: Path) -> Path:
    if path.is_file():
        if path.suffix != ".safetensors":
            raise AdapterError(
                f"{path} is no .safetensors file; others may run code when read, and are refused."
            )
        return path
    if not path.is_dir():
        raise AdapterError(f"{path} is neither a file nor a folder.")
    if (path / DIFFUSERS_WEIGHTS).is_file():
        return path / DIFFUSERS_WEIGHTS
    files = sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        found = f"{len(files)} .safetensors files" if files else "no .safetensors file"
        raise AdapterError(f"{path} holds {found} and no {PEFT_CONFIG}; name the file itself.")
    return files[0]


def _load(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{file} cannot be read: {error}") from error


def _refuse_other_kinds(tensors: Mapping[str, Tensor], file: Path) -> None:
    for key in tensors:
        for sign, kind in _OTHER_KINDS.items():
            if sign in key:
                raise AdapterError(f"{file} holds {kind} ({key}); plain LoRA can be imported.")


def gather(tensors: Mapping[str, Tensor], file: Path) -> dict[str, dict[str, Tensor]]:
    """{module: {down, up and perhaps alpha}}.

    Raises:
        AdapterError: listing tensors of no known role, or modules that lack one of a pair.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in tensors.items():
        ending = next((ending for ending in _ROLES if key.endswith(ending)), None)
        if ending is None:
            unknown.append(key)
            continue
        # The old names of diffusers, "attn1.processor.to_q_lora.down.weight".
        name = key.removesuffix(ending).replace(".processor.", ".")
        modules.setdefault(name, {})[_ROLES[ending]] = tensor
    if unknown:
        raise AdapterError(
            f"{file} holds {len(unknown)} tensors that are no part of a LoRA: {first_few(unknown)}."
        )
    for role in ("down", "up"):
        lone = [name for name, roles in modules.items() if role not in roles]
        if lone:
            raise AdapterError(f"{file} lacks the {role} of {len(lone)} modules ({first_few(lone)}).")
    if not modules:
        raise AdapterError(f"{file} holds no tensors.")
    return modules


def _scaled(part: str | None, module: str, roles: Mapping[str, Tensor], scale: float) -> Entry:
    return Entry(part, module, roles["up"].float() * scale, roles["down"].float())


def _rank(roles: Mapping[str, Tensor]) -> int:
    return roles["down"].shape[0]


def _kohya_part(key: str) -> str | None:
    """The longest prefix of a kohya key: "lora_te1" before "lora_te"."""
    found = [prefix for prefix in KOHYA_PREFIXES if key.startswith(f"{prefix}_")]
    return max(found, key=len, default=None)


def _kohya_entry(name: str, roles: Mapping[str, Tensor]) -> Entry:
    prefix = _kohya_part(name)
    alpha = roles.get("alpha")
    scale = 1.0 if alpha is None else float(alpha) / _rank(roles)
    return _scaled(KOHYA_PREFIXES[prefix], name.removeprefix(f"{prefix}_"), roles, scale)


def _diffusers_entry(
    name: str, roles: Mapping[str, Tensor], metadata: Mapping[str, Any], file: Path
) -> Entry:
    part = next((part for part in PARTS if name.startswith(f"{part}.")), None)
    module = name.removeprefix(f"{part}.") if part else name
    settings = {
        key.removeprefix(f"{part}."): value for key, value in metadata.items() if key.startswith(f"{part}.")
    }
    if "alpha" in roles:
        scale = float(roles["alpha"]) / _rank(roles)
    else:
        scale = peft_scale(settings, module, _rank(roles), file) if settings else 1.0
    return _scaled(part, module, roles, scale)


def _read_peft(folder: Path) -> LoraFile:
    try:
        settings = json.loads((folder / PEFT_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{folder / PEFT_CONFIG} is broken: {error}.") from error
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind is None:
        raise AdapterError(
            f"{folder} is no PEFT adapter: {PEFT_CONFIG} has no peft_type. An adapter of superlora-diffusion needs no "
            "import."
        )
    if kind != "LORA":
        raise AdapterError(f"{folder} holds {kind} by its peft_type; LORA can be imported.")
    if not (folder / PEFT_WEIGHTS).is_file():
        raise AdapterError(f"{folder} has no {PEFT_WEIGHTS}.")
    tensors, _ = _load(folder / PEFT_WEIGHTS)
    _refuse_other_kinds(tensors, folder)
    entries = []
    for name, roles in gather(tensors, folder / PEFT_WEIGHTS).items():
        module = name.removeprefix("base_model.model.")
        scale = peft_scale(settings, module, _rank(roles), folder)
        entries.append(_scaled(None, module, roles, scale))
    return LoraFile("peft", folder, tuple(entries))


_REFUSED_SETTINGS = {
    "use_dora": "DoRA",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "modules_to_save": "modules trained whole (modules_to_save)",
    "lora_bias": "LoRA with biases",
    "trainable_token_indices": "trained tokens",
    "layer_replication": "replicated layers",
    "target_parameters": "LoRA of bare parameters (target_parameters)",
}


def peft_scale(settings: Mapping[str, Any], module: str, rank: int, source: Path) -> float:
    """alpha / rank of one module by PEFT's rules; alpha / sqrt(rank) under rslora.

    Args:
        settings: of a LoraConfig.
        module: which.
        rank: as its tensors have it.
        source: for messages.

    Raises:
        AdapterError: for settings that plain LoRA does not have.
    """
    for name, kind in _REFUSED_SETTINGS.items():
        if settings.get(name):
            raise AdapterError(f"{source} holds {kind}; plain LoRA can be imported.")
    if settings.get("bias", "none") != "none":
        raise AdapterError(
            f"{source} was trained with biases (bias {settings['bias']!r}); plain LoRA can be imported."
        )
    patterns = settings.get("alpha_pattern") or {}
    alpha = next(
        (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)),
        settings.get("lora_alpha", 8),
    )
    return alpha / (rank**0.5 if settings.get("use_rslora") else rank)
