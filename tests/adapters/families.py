"""The smallest network of every family that presets know, as shapes alone (on the meta device)."""

from __future__ import annotations

import functools

import torch
from diffusers import (
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)
from tiny import UNET
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel


def _conditional() -> nn.Module:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=12,
        norm_num_groups=4,
        attention_head_dim=4,
        use_linear_projection=True,
    )


def _dit() -> nn.Module:
    return DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=6,
        in_channels=3,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=5,
    )


def _sd3() -> nn.Module:
    """As SD 3.5 medium: the first block attends twice, the last one has no text to hand on."""
    return SD3Transformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        caption_projection_dim=16,
        pooled_projection_dim=10,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )


def _flux() -> nn.Module:
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=12,
        pooled_projection_dim=10,
        axes_dims_rope=(4, 4, 8),
    )


def _clip() -> nn.Module:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            hidden_size=16,
            intermediate_size=20,
            projection_dim=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=30,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def _t5(kind: str) -> nn.Module:
    return T5EncoderModel(
        T5Config(
            d_model=12,
            d_kv=5,
            d_ff=20,
            num_layers=1,
            num_heads=2,
            vocab_size=30,
            feed_forward_proj=kind,
        )
    )


FAMILIES = {
    "unet": lambda: UNet2DModel(**UNET, class_embed_type="timestep"),
    "conditional": _conditional,
    "dit": _dit,
    "sd3": _sd3,
    "flux": _flux,
    "clip": _clip,
    "t5": lambda: _t5("relu"),
    "t5-gated": lambda: _t5("gated-gelu"),
}


@functools.cache
def family(name: str) -> nn.Module:
    """A network to look at, made once."""
    with torch.device("meta"):
        return FAMILIES[name]()
