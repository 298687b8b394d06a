"""Module names of LoRA files against a network's: dots, underscores, old names and those of the original code."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from ..adapters.targets import ADAPTABLE
from .keys import file_module
from .places import Place, parts_of

# Old diffusers files name the projections of attention by role, whatever their layer is called.
_ROLES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def names_by_alias(network: nn.Module) -> dict[tuple[str, str], str]:
    """{(part, alias): module's name on the network} for every Linear and Conv2d.

    Aliases are the module's name, what files call it, both with underscores, and for a U-Net the original code's name
    with underscores, under which sd-scripts store LoRAs of Stable Diffusion XL.
    """
    parts = parts_of(network)
    alone = next(iter(parts.values())) is network
    names: dict[tuple[str, str], str] = {}
    for part, child in parts.items():
        for module, layer in child.named_modules():
            if not isinstance(layer, ADAPTABLE):
                continue
            target = module if alone else f"{part}.{module}"
            for alias in _aliases(part, module, child):
                names.setdefault((part, alias), target)
    return names


def _aliases(part: str, module: str, network: nn.Module) -> Iterator[str]:
    stored = file_module(Place(part, module))
    for name in (module, stored):
        yield name
        yield name.replace(".", "_")
    parent, _, last = stored.rpartition(".")
    if stored.endswith("to_out.0"):
        yield stored.removesuffix(".0")
    for role, projection in _ROLES.items():
        if last == projection:
            yield f"{parent}.{role}"
    if part == "unet":
        original = original_name(module, getattr(network.config, "layers_per_block", None))
        if original:
            yield original.replace(".", "_")


def original_name(module: str, layers: int | list[int] | None) -> str | None:
    """What the original code calls a module of Stable Diffusion's U-Net; None where it has no such thing.

    Args:
        module: diffusers' name.
        layers: layers_per_block of the U-Net.
    """
    if module in _OUTER:
        return _OUTER[module]
    if not isinstance(layers, int):
        return None
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", module):
        kind, place, rest = found[1], int(found[2]), found[3]
        number = 2 * place if kind == "resnets" else 2 * place + 1
        return f"middle_block.{number}.{_inner(kind, rest)}"
    found = re.fullmatch(
        r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", module
    )
    if not found:
        return None
    way, block, kind, place, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if way == "down":
        number = 1 + block * (layers + 1) + (layers if kind == "downsamplers" else place)
    else:
        number = block * (layers + 1) + (layers if kind == "upsamplers" else place)
    side = "input_blocks" if way == "down" else "output_blocks"
    inside = {"resnets": 0, "attentions": 1, "downsamplers": 0, "upsamplers": 2}[kind]
    return f"{side}.{number}.{inside}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    if kind == "resnets":
        return _RESNET.get(rest, rest)
    return "op" if kind == "downsamplers" else rest
