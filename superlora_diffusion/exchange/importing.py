"""``import``: LoRA files of other tools as adapters of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..adapters.attaching import attach_to_targets
from ..adapters.config import SuperLoRAConfig
from ..adapters.module import SuperLoRA
from ..adapters.naming import shortest_patterns
from ..adapters.storage import AdapterCard
from ..adapters.targets import ADAPTABLE, describe
from ..errors import AdapterError, nearest
from ..models.config import BaseSettings
from ..models.storage import load_base
from .exporting import require_free
from .factors import Pair
from .places import parts_of
from .reading import Entry, LoraFile, first_few, read_lora
from .resolving import names_by_alias
from .writing import pad


@dataclass(frozen=True)
class Import:
    """What was read and written."""

    format: str
    source: Path
    path: Path
    targets: int
    rank: int
    """The largest of any module, which all are stored at."""
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.__dict__, "source": str(self.source), "path": str(self.path)}


def import_lora(source: Path | str, base: str, out: Path) -> Import:
    """Read a LoRA of another tool, attach it to a base and save it as an adapter folder.

    Args:
        source: a PEFT folder, or a file of diffusers or kohya, or a folder with one.
        base: an embedded name, a folder or a hub id.
        out: the new adapter folder.

    Raises:
        AdapterError: for a file that is no plain LoRA, or does not fit the base.
        BaseModelError: if the base cannot be loaded.
        ConfigError: if ``out`` holds something.
    """
    require_free(out)
    file = read_lora(source)  # before the base, which takes longer
    adapter = attach_lora(load_base(BaseSettings(path=base)).network, file)
    note = {
        "imported": {
            "from": file.path.name,
            "format": file.format,
            "by": f"superlora-diffusion {__version__}",
        }
    }
    adapter.save_pretrained(out, AdapterCard(base=base, training=note))
    rank = adapter.config.rank
    return Import(file.format, file.path, out, len(adapter.targets), rank, adapter.num_parameters)


def attach_lora(network: nn.Module, file: LoraFile, name: str = "default") -> SuperLoRA:
    """Attach what a file holds as an adapter of variant lora; smaller ranks are padded with zeros.

    Args:
        network: the denoiser, or a composite of networks of a pipeline.
        file: of another tool.
        name: a name among the adapters of the network.

    Raises:
        AdapterError: listing modules the network lacks, or for a wrong shape.
    """
    pairs = _resolve(network, file)
    layers = {key: module for key, module in network.named_modules() if isinstance(module, ADAPTABLE)}
    targets = [describe(key, layers[key]) for key in layers if key in pairs]
    rank = max(pair.up.shape[1] for pair in pairs.values())
    patterns = shortest_patterns([target.name for target in targets], list(layers))
    config = SuperLoRAConfig(variant="lora", rank=rank, targets=patterns, step="plain")
    adapter = attach_to_targets(network, config, targets, name)
    with torch.no_grad():
        for group, target in zip(adapter.plan.groups, targets, strict=True):
            first, second = (adapter.tensors()[factor.name] for factor in group.parts[0].factors)
            up, down = pad(pairs[target.name], rank)
            first.copy_(up)
            second.copy_(down.t())  # dW = A_1 A_2^T
    return adapter


def _resolve(network: nn.Module, file: LoraFile) -> dict[str, Pair]:
    """{target: pair of matrices} in the network's names and shapes."""
    names, parts = names_by_alias(network), parts_of(network)
    default = next(iter(parts))
    pairs: dict[str, Pair] = {}
    unknown = []
    for entry in file.entries:
        target = _find(names, entry, default, list(parts))
        if target is None:
            unknown.append(entry)
        elif target in pairs:
            raise AdapterError(f"{file.path} holds two LoRAs of {target}.")
        else:
            pairs[target] = _as_matrices(target, entry, network.get_submodule(target).weight, file.path)
    if unknown:
        raise AdapterError(_unknown(file, unknown, network, names, default))
    return pairs


def _find(names: dict, entry: Entry, default: str, parts: Sequence[str]) -> str | None:
    if entry.part is not None:
        # kohya's lora_unet is also what some tools call a transformer.
        part = default if entry.part == "unet" and "unet" not in parts else entry.part
        return names.get((part, entry.module))
    for part in parts:  # a file of PEFT says no part; of a composite its names begin with one
        inside = entry.module.removeprefix(f"{part}.") if len(parts) > 1 else entry.module
        if (part, inside) in names:
            return names[part, inside]
    return None


def _unknown(file: LoraFile, unknown: list[Entry], network: nn.Module, names: dict, default: str) -> str:
    listed = [f"{entry.part}.{entry.module}" if entry.part else entry.module for entry in unknown]
    other = sorted({entry.part for entry in unknown if entry.part not in (None, "unet", *parts_of(network))})
    if other:
        hint = f" It also adapts {', '.join(other)}; here only {', '.join(parts_of(network))} is adapted."
    else:
        hint = nearest(unknown[0].module, [alias for part, alias in names if part == default])
    return (
        f"{file.path} adapts {len(unknown)} modules that the {type(network).__name__} of this base does not have: "
        f"{first_few(listed)}.{hint} Is this the right base?"
    )


def _as_matrices(target: str, entry: Entry, weight: Tensor, path: Path) -> Pair:
    """(out, r) and (r, columns), checked; a convolution of kernel 1 and a Linear layer are the same."""
    up, down = entry.up, entry.down
    rank, columns = down.shape[0], weight[0].numel()
    kernel = tuple(weight.shape[1:])
    fits_down = tuple(down.shape[1:]) == kernel or _is_pointwise(down, weight)
    fits_up = tuple(up.shape[:2]) == (weight.shape[0], rank) and up.numel() == weight.shape[0] * rank
    if not (fits_down and fits_up):
        raise AdapterError(
            f"{path} adapts {target} by up {tuple(up.shape)} and down {tuple(down.shape)}; its weight here is "
            f"{tuple(weight.shape)}. Is this the right base?"
        )
    return Pair(up.reshape(weight.shape[0], rank), down.reshape(rank, columns))


def _is_pointwise(down: Tensor, weight: Tensor) -> bool:
    return down.shape[1:2] == weight.shape[1:2] and down[0].numel() == weight[0].numel() == weight.shape[1]
