"""LoRA files for other tools, from factored updates: diffusers, PEFT and kohya.

No hidden scale: alpha equals the rank, or is the same for all modules with the difference folded into ``up``, since
readers differ in what they make of an alpha a module.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import BaseModelError, ConfigError
from ..files import write_atomically, write_folder_atomically, write_json
from .factors import Pair
from .keys import file_module, kohya_name
from .places import DENOISERS, Pipeline, Place

PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
Pairs = Mapping[Place, Pair]


def write_diffusers(pairs: Pairs, pipeline: Pipeline, out: Path) -> Path:
    """Write a folder for ``pipe.load_lora_weights(out)``, by the writer of the pipeline's own class.

    Raises:
        BaseModelError: if diffusers loads no LoRA into this pipeline, or into one of the networks.
    """
    require_loader(pipeline, "diffusers")
    parts = {place.part for place in pairs}
    accepted = inspect.signature(pipeline.kind.save_lora_weights).parameters
    refused = sorted(part for part in parts if f"{part}_lora_layers" not in accepted)
    if refused:
        raise BaseModelError(f"diffusers loads no LoRA into the {refused[0]} of a {pipeline.name}.")
    arguments: dict[str, Any] = {}
    for part in parts:
        inside = {file_module(place): pair for place, pair in pairs.items() if place.part == part}
        if len(parts) > 1 or part not in DENOISERS:
            inside = pad_to_one_rank(inside)  # text encoders know one rank and alpha only
        arguments[f"{part}_lora_layers"] = lora_tensors(inside)
        if len(parts) == 1 and f"{part}_lora_adapter_metadata" in accepted and part in DENOISERS:
            arguments[f"{part}_lora_adapter_metadata"] = lora_settings(inside)
    write_folder_atomically(out, lambda partial: pipeline.kind.save_lora_weights(partial, **arguments))
    return out / "pytorch_lora_weights.safetensors"


def require_loader(pipeline: Pipeline, wanted: str) -> None:
    """Refuse pipelines that diffusers loads no LoRA into.

    Raises:
        BaseModelError: naming the formats that work.
    """
    if not pipeline.has_lora_loader:
        raise BaseModelError(
            f"diffusers loads no LoRA files into a {pipeline.name}, so a file of format {wanted} would be of no use. "
            "Use format peft (PeftModel.from_pretrained(network, folder)), or merged (a whole pipeline)."
        )


def pad_to_one_rank(pairs: Mapping[str, Pair]) -> dict[str, Pair]:
    """All pairs at the largest rank, with zeros."""
    rank = max(pair.up.shape[1] for pair in pairs.values())
    return {name: pad(pair, rank) for name, pair in pairs.items()}


def pad(pair: Pair, rank: int) -> Pair:
    """The pair at a higher rank, with zeros."""
    up, down = pair
    return Pair(_grown(up, 1, rank), _grown(down, 0, rank))


def _grown(tensor: Tensor, dim: int, size: int) -> Tensor:
    shape = list(tensor.shape)
    shape[dim] = size - tensor.shape[dim]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim)


def lora_tensors(pairs: Mapping[str, Pair], prefix: str = "") -> dict[str, Tensor]:
    """{module.lora_A.weight: down, module.lora_B.weight: up}."""
    tensors = {}
    for name, (up, down) in pairs.items():
        tensors[f"{prefix}{name}.lora_A.weight"] = down.contiguous()
        tensors[f"{prefix}{name}.lora_B.weight"] = up.contiguous()
    return tensors


def lora_settings(pairs: Mapping[str, Pair]) -> dict[str, Any]:
    """What PEFT's ``LoraConfig`` is built from: ranks as they are, every alpha its rank."""
    ranks = {name: pair.up.shape[1] for name, pair in pairs.items()}
    common = max(set(ranks.values()), key=list(ranks.values()).count)
    # Anchored: a pattern of PEFT's else matches any module whose name ends so.
    others = {f"^{name}": rank for name, rank in ranks.items() if rank != common}
    return {
        "r": common,
        "lora_alpha": common,
        "rank_pattern": others,
        "alpha_pattern": dict(others),
        "target_modules": list(ranks),
    }


def write_peft(pairs: Pairs, out: Path, base: str | None) -> Path:
    """Write a folder for ``PeftModel.from_pretrained(network, out)``; one a network where there are several.

    Raises:
        ConfigError: if PEFT is not installed.
    """
    parts = sorted({place.part for place in pairs})

    def write(partial: Path) -> None:
        for part in parts:
            inside = {place.module: pair for place, pair in pairs.items() if place.part == part}
            write_peft_folder(inside, partial if len(parts) == 1 else partial / part, base)

    write_folder_atomically(out, write)
    return out


def write_peft_folder(
    pairs: Mapping[str, Pair],
    folder: Path,
    base: str | None,
    whole: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> None:
    """The files of one network.

    Args:
        pairs: factors by module.
        folder: where.
        base: what the base is called.
        whole: modules that are stored as they are, each parameter by its name (PEFT's modules_to_save).

    Raises:
        ConfigError: if PEFT is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ConfigError("format peft needs PEFT: pip install 'superlora-diffusion[peers]'.") from error
    tensors = lora_tensors(pairs, "base_model.model.")
    for module, numbers in (whole or {}).items():
        tensors |= {
            f"base_model.model.{module}.{name}": value.contiguous() for name, value in numbers.items()
        }
    write_atomically(folder / PEFT_WEIGHTS, lambda partial: save_file(tensors, partial, {"format": "pt"}))
    LoraConfig(
        **lora_settings(pairs),
        base_model_name_or_path=base,
        bias="none",
        inference_mode=True,
        modules_to_save=list(whole) if whole else None,
    ).save_pretrained(str(folder))
    described = json.loads((folder / PEFT_CONFIG).read_text(encoding="utf-8"))
    described["target_modules"] = sorted(described["target_modules"])  # PEFT writes a set, in any order
    write_json(folder / PEFT_CONFIG, described)


def write_kohya(pairs: Pairs, pipeline: Pipeline, out: Path, settings: Mapping[str, Any]) -> Path:
    """Write one file as sd-scripts do, for ComfyUI, A1111 and (but for Stable Diffusion 3) diffusers.

    Args:
        pairs: what to write.
        pipeline: for which pipeline.
        out: the file, .safetensors.
        settings: of the denoiser: cross_attention_dim tells versions apart.

    Raises:
        BaseModelError: for pipelines that the format knows no names for.
    """
    require_loader(pipeline, "kohya")
    version = base_version(pipeline, settings)
    rank = max(pair.up.shape[1] for pair in pairs.values())
    mixed = len({pair.up.shape[1] for pair in pairs.values()}) > 1
    tensors: dict[str, Tensor] = {}
    for place, (up, down) in {**pairs, **_zero_outputs(pairs)}.items():
        name = kohya_name(place, pipeline.components)
        tensors[f"{name}.lora_down.weight"] = down.contiguous()
        tensors[f"{name}.lora_up.weight"] = (up * (down.shape[0] / rank)).contiguous()
        tensors[f"{name}.alpha"] = torch.tensor(float(rank))
    metadata = {
        "format": "pt",
        "ss_base_model_version": version,
        "ss_network_module": "networks.lora",
        "ss_network_dim": "Dynamic" if mixed else str(rank),  # as sd-scripts' resizing writes it
        "ss_network_alpha": str(float(rank)),
        "ss_v2": str(version.startswith("sd_v2")),
    }
    write_atomically(out, lambda partial: save_file(tensors, partial, metadata))
    return out


def _zero_outputs(pairs: Pairs) -> dict[Place, Pair]:
    """A pair of zeros for one output projection of each text encoder that has none, but has other attention layers.

    diffusers takes the names of queries, keys and values for what they are only where it sees an output projection;
    sd-scripts always train one.
    """
    added: dict[Place, Pair] = {}
    for part in {place.part for place in pairs if place.part.startswith("text_encoder")}:
        modules = [place for place in pairs if place.part == part]
        attention = [place for place in modules if place.module.endswith((".q_proj", ".k_proj", ".v_proj"))]
        if attention and not any(place.module.endswith(".out_proj") for place in modules):
            up, down = pairs[attention[0]]
            beside = attention[0].module.rpartition(".")[0]
            added[Place(part, f"{beside}.out_proj")] = Pair(
                up.new_zeros(len(up), 1), down.new_zeros(1, down.shape[1])
            )
    return added


def base_version(pipeline: Pipeline, settings: Mapping[str, Any]) -> str:
    """What sd-scripts call the kind of base.

    Raises:
        BaseModelError: for a kind they do not know.
    """
    if pipeline.name.startswith("StableDiffusionXL"):
        return "sdxl_base_v1-0"
    if pipeline.name.startswith("StableDiffusion3"):
        return "sd3"
    if pipeline.name.startswith("StableDiffusion"):
        version = "sd_v2" if settings.get("cross_attention_dim") == 1024 else "sd_v1"
        scheduler = pipeline.folder / "scheduler" / "scheduler_config.json"
        given = json.loads(scheduler.read_text(encoding="utf-8")) if scheduler.is_file() else {}
        return version + ("_v" if given.get("prediction_type") == "v_prediction" else "")
    raise BaseModelError(
        f"format kohya has names for Stable Diffusion 1, 2, XL and 3, and none for a {pipeline.name}; "
        "use format diffusers, peft or merged."
    )
