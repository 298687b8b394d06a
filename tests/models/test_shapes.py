"""Networks as shapes: the targets of the real thing, and not a byte of storage."""

from __future__ import annotations

import json

import huggingface_hub.constants
import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel
from tiny import UNET, make_base, write_base
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from superlora_diffusion import SuperLoRAConfig, find_targets
from superlora_diffusion.errors import BaseModelError, ConfigError
from superlora_diffusion.models.config import EMBEDDED_BASE, BaseSettings
from superlora_diffusion.models.shapes import network_on_meta
from superlora_diffusion.models.storage import load_base

# Stable Diffusion 1.5's denoiser, by the fields that decide its shapes.
STABLE_DIFFUSION = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "sample_size": 64,
}
SMALL_CONDITIONAL = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
SMALL_DIT = {
    "num_attention_heads": 2,
    "attention_head_dim": 6,
    "in_channels": 3,
    "num_layers": 2,
    "sample_size": 8,
    "num_embeds_ada_norm": 5,
}
QKV = SuperLoRAConfig(targets=["to_q", "to_k", "to_v", "to_out.0"])


def on_meta(path):
    network = network_on_meta(BaseSettings(path=str(path)))
    tensors = [*network.parameters(), *network.buffers()]
    assert tensors and all(tensor.is_meta for tensor in tensors)
    return network


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


class StorageWatch(TorchDispatchMode):
    """Adds up the bytes of every tensor that any operation makes on a real device."""

    made = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and not tensor.is_meta:
                self.made += tensor.numel() * tensor.element_size()
        return result


def test_stable_diffusion_sized_without_storage(tmp_path):
    """860M parameters; the targets by hand: q and v of 16 self-attentions, and of 16 that look at 768 numbers."""
    path = write_json(tmp_path / "config.json", STABLE_DIFFUSION)
    with StorageWatch() as watch:
        network = on_meta(path)
        targets = find_targets(network, SuperLoRAConfig())
    assert watch.made == 0
    with StorageWatch() as watch:  # what it would see of a real one
        make_base()
    assert watch.made > 10_000
    assert sum(parameter.numel() for parameter in network.parameters()) == 859_520_964
    assert len(targets) == 64
    widths = [320] * 5 + [640] * 5 + [1280] * 6
    assert sum(target.size for target in targets) == sum(3 * w * w + 768 * w for w in widths)


@pytest.mark.parametrize(
    ("kind", "arguments", "place"),
    [
        (UNet2DConditionModel, SMALL_CONDITIONAL, "unet/config.json"),
        (DiTTransformer2DModel, SMALL_DIT, "transformer/config.json"),
        (DiTTransformer2DModel, SMALL_DIT, "config.json"),
    ],
)
def test_pipelines_and_networks_as_folders(kind, arguments, place, tmp_path):
    real = kind(**arguments)
    real.save_config(tmp_path / place.removesuffix("config.json"))
    expected = find_targets(real, QKV)
    assert len(expected) >= 8
    for path in (tmp_path, tmp_path / place):
        network = on_meta(path)
        assert type(network) is kind and find_targets(network, QKV) == expected


def test_bases_have_the_targets_of_the_loaded_ones(tmp_path):
    folder = write_base(tmp_path / "base")
    for path in (str(folder), EMBEDDED_BASE):
        loaded = load_base(BaseSettings(path=path)).network
        network = on_meta(path)
        assert find_targets(network, QKV) == find_targets(loaded, QKV)
        shapes = {name: value.shape for name, value in loaded.state_dict().items()}
        assert {name: value.shape for name, value in network.state_dict().items()} == shapes


def test_a_fresh_network():
    build = {"unet": {**UNET, "block_out_channels": [8, 16]}, "class_names": ["ash", "birch", "cedar", "oak"]}
    network = network_on_meta(BaseSettings(path=None, build=build))
    expected = {name: value.shape for name, value in make_base().network.state_dict().items()}
    assert {name: value.shape for name, value in network.state_dict().items()} == expected
    with pytest.raises(ConfigError, match="Did you mean 'sample_size'"):
        network_on_meta(BaseSettings(path=None, build={"unet": {"sample_siz": 8}}))


def test_a_hub_id_reads_its_config_alone(tmp_path, monkeypatch):
    """As the hub's cache holds it: a snapshot without weights, found offline."""
    repository = tmp_path / "models--some--dit"
    config = {"_class_name": "DiTTransformer2DModel", **SMALL_DIT}
    write_json(repository / "snapshots" / ("a" * 40) / "transformer/config.json", config)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert len(find_targets(on_meta("some/dit"), SuperLoRAConfig())) == 4
    with pytest.raises(BaseModelError, match=r"model 'some/other' .* the hub gave no config"):
        on_meta("some/other")


def test_what_is_no_network_is_told(tmp_path):
    def said(path):
        with pytest.raises(BaseModelError) as told:
            on_meta(path)
        return str(told.value)

    assert "neither a file nor a folder. Did you mean 'synthdigits-16'?" in said("synthdigit-16")
    assert "none of unet/config.json, transformer/config.json, config.json is there" in said(tmp_path)
    scheduler = write_json(tmp_path / "scheduler.json", {"_class_name": "DDPMScheduler"})
    assert "describes a DDPMScheduler; a UNet2DModel, UNet2DConditionModel" in said(scheduler)
    encoder = write_json(tmp_path / "encoder.json", {"model_type": "clip_text_model"})
    assert "a clip_text_model of another library" in said(encoder)
    assert "no class (_class_name)" in said(write_json(tmp_path / "plain.json", {}))
    assert "it holds a list" in said(write_json(tmp_path / "list.json", [1]))
    broken = {**STABLE_DIFFUSION, "up_block_types": ["UpBlock2D"]}
    assert "UNet2DConditionModel that cannot be built" in said(write_json(tmp_path / "bad.json", broken))
    (tmp_path / "half.json").write_text("{")
    assert "half.json is broken" in said(tmp_path / "half.json")
