"""The smallest pipelines that are the real thing: real classes with fixed random weights, saved as real folders."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from tiny import UNET
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

_ENDS = ["<|startoftext|>", "<|endoftext|>"]
_CONDITIONAL = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "cross_attention_dim": 16,
}


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer of single letters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = list(string.ascii_lowercase)
    words = [*letters, *(f"{letter}</w>" for letter in letters), *_ENDS]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def make_text_encoder(cls: type = CLIPTextModel) -> torch.nn.Module:
    """A CLIP text encoder for that tokenizer, 16 wide."""
    start, end = 52, 53
    config = CLIPTextConfig(
        vocab_size=54,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=16,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    return cls(config).eval()


def make_vae() -> AutoencoderKL:
    """An autoencoder of 16 pixels and latents half as wide."""
    torch.manual_seed(11)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        shift_factor=0.1,
        norm_num_groups=4,
        sample_size=16,
    ).eval()


def make_stable_diffusion(folder: Path) -> StableDiffusionPipeline:
    """Stable Diffusion 1."""
    torch.manual_seed(7)
    return StableDiffusionPipeline(
        vae=make_vae(),
        text_encoder=make_text_encoder(),
        tokenizer=make_tokenizer(folder / "words"),
        unet=UNet2DConditionModel(**_CONDITIONAL).eval(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_stable_diffusion_xl(folder: Path) -> StableDiffusionXLPipeline:
    """Stable Diffusion XL: two text encoders, one of them with a projection, and Linear proj_in."""
    torch.manual_seed(7)
    unet = UNet2DConditionModel(
        **{**_CONDITIONAL, "cross_attention_dim": 32},
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4,
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
    ).eval()
    return StableDiffusionXLPipeline(
        vae=make_vae(),
        text_encoder=make_text_encoder(),
        text_encoder_2=make_text_encoder(CLIPTextModelWithProjection),
        tokenizer=make_tokenizer(folder / "words"),
        tokenizer_2=make_tokenizer(folder / "words"),
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        add_watermarker=False,
    )


def make_stable_diffusion_3(folder: Path) -> StableDiffusion3Pipeline:
    """Stable Diffusion 3, without its T5."""
    torch.manual_seed(7)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=8,
    ).eval()
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=make_vae(),
        text_encoder=make_text_encoder(CLIPTextModelWithProjection),
        tokenizer=make_tokenizer(folder / "words"),
        text_encoder_2=make_text_encoder(CLIPTextModelWithProjection),
        tokenizer_2=make_tokenizer(folder / "words"),
        text_encoder_3=None,
        tokenizer_3=None,
    )


def make_ddpm(folder: Path) -> DDPMPipeline:
    """An unconditional DDPM U-Net of 8 pixels."""
    torch.manual_seed(7)
    return DDPMPipeline(unet=UNet2DModel(**UNET).eval(), scheduler=DDPMScheduler())


def make_dit(folder: Path) -> DiTPipeline:
    """A class-conditional diffusion transformer."""
    torch.manual_seed(7)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=5,
        out_channels=8,
    ).eval()
    return DiTPipeline(transformer, make_vae(), DDIMScheduler(), id2label={0: "ash", 1: "birch"})


MAKERS = {
    "sd": make_stable_diffusion,
    "sdxl": make_stable_diffusion_xl,
    "sd3": make_stable_diffusion_3,
    "ddpm": make_ddpm,
    "dit": make_dit,
}


def write_pipeline(kind: str, folder: Path) -> Path:
    """A tiny pipeline as a diffusers folder."""
    MAKERS[kind](folder.parent / f"{folder.name}-parts").save_pretrained(folder)
    return folder


def load_pipeline(folder: Path, **options: Any) -> DiffusionPipeline:
    """What plain diffusers makes of a folder, without its progress bar."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    is_sd3 = index["_class_name"] == "StableDiffusion3Pipeline"
    absent = {"text_encoder_3": None, "tokenizer_3": None} if is_sd3 else {}
    pipeline = DiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False, **absent, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: DiffusionPipeline) -> torch.Tensor:
    """One image of two steps, (1, H, W, 3) in [0, 1]; the same noise every time."""
    generator = torch.Generator().manual_seed(3)
    common = {"generator": generator, "num_inference_steps": 2, "output_type": "np"}
    if isinstance(pipeline, DDPMPipeline):
        return torch.from_numpy(pipeline(batch_size=1, **common).images)
    if isinstance(pipeline, DiTPipeline):
        return torch.from_numpy(pipeline([1], guidance_scale=1.0, **common).images)
    size = {"height": 16, "width": 16, "guidance_scale": 3.0}
    return torch.from_numpy(pipeline("a red dot", negative_prompt="", **size, **common).images)


def denoiser(pipeline: DiffusionPipeline) -> torch.nn.Module:
    """Its unet or transformer."""
    return pipeline.components.get("unet") or pipeline.transformer
