"""The networks the benches run on, and the methods that are attached to copies of them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel, UNet2DModel
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters.targets import find_targets
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.models.storage import load_base
from superlora_diffusion.peers import attach_peer
from superlora_diffusion.peers.config import LycorisSettings, PeftSettings

TARGETS = ("to_q", "to_v")

# Every named variant, and the paper's favourite with the two spreads.
OURS: dict[str, dict[str, Any]] = {
    **{name: {"variant": name} for name in ("dense", "lora", "group_lora", "lokr", "lonkr", "lotr", "lorta")},
    "lorta, 12 groups": {"variant": "lorta", "groups": 12},
    "lorta, fastfood 0.01": {"variant": "lorta", "projection": "fastfood", "ratio": 0.01},
    "lorta, block_hadamard 0.01": {"variant": "lorta", "projection": "block_hadamard", "ratio": 0.01},
}
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "PEFT LoRA r8": ("peft", {"tuner": "lora", "options": {"r": 8}}),
    "PEFT LoKr": ("peft", {"tuner": "lokr", "options": {"r": 8}}),
    "PEFT FourierFT": ("peft", {"tuner": "fourierft", "options": {"n_frequency": 100}}),
    "PEFT Uni-LoRA": ("peft", {"tuner": "unilora", "options": {"theta_d_length": 1000}}),
    "LyCORIS LoKr": ("lycoris", {"algo": "lokr", "options": {"lora_dim": 8, "alpha": 8, "factor": 8}}),
}  # fmt: skip


def base_16() -> UNet2DModel:
    """The embedded 16 px base."""
    return load_base(BaseSettings()).network


def paper_unet() -> UNet2DModel:
    """The paper's U-Net at 32 px, with random weights: 565,248 weights in q and v."""
    return UNet2DModel(
        sample_size=32, block_out_channels=(64, 128, 128, 128), layers_per_block=2, num_class_embeds=11,
        down_block_types=("AttnDownBlock2D",) * 4, up_block_types=("AttnUpBlock2D",) * 4,
    )  # fmt: skip


def stable_diffusion_unet() -> UNet2DConditionModel:
    """A denoiser of Stable Diffusion 1.5's shape, with random weights: 860 million."""
    return UNet2DConditionModel(
        sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip


def noise_schedule() -> DDPMScheduler:
    return DDPMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )


def attach_ours(network: nn.Module, fields: Mapping[str, Any]) -> list[nn.Parameter]:
    """Attach one of our settings; what trains."""
    return list(attach(network, SuperLoRAConfig(targets=TARGETS, **fields)).parameters())


def attach_theirs(network: nn.Module, name: str) -> list[nn.Parameter]:
    """Attach a peer by its name here; what trains."""
    method, fields = PEERS[name]
    settings = (PeftSettings if method == "peft" else LycorisSettings)(targets=TARGETS, **fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(attach_peer(network, method, settings, 0).parameters.values())


def train_targets(network: nn.Module) -> list[nn.Parameter]:
    """The floor: the target weights themselves train, with no adapter."""
    network.requires_grad_(False)
    targets = find_targets(network, SuperLoRAConfig(targets=TARGETS))
    weights = [network.get_submodule(target.name).weight for target in targets]
    for weight in weights:
        weight.requires_grad_(True)
    return weights


def copy_of(network: nn.Module, device: torch.device) -> nn.Module:
    return copy.deepcopy(network).to(device).train()
