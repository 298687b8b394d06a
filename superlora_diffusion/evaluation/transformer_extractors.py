"""DINOv2 and CLIP as extractors, by transformers, from a hub id or a folder. They have features and no classes.

Images are resized whole, not cropped as in classification: what a generated image shows at its border counts
(as in Stein et al. 2023, arXiv 2306.04675, for DINOv2, and Kynkaanniemi et al. 2022, arXiv 2203.06026, for CLIP).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superlora_diffusion.errors import EvaluationError

DEFAULT_IDS = {"dinov2": "facebook/dinov2-base", "clip": "openai/clip-vit-base-patch32"}
# What the published weights of each kind were trained with.
DINOV2_SIZE = 224
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class TransformerNet(nn.Module):
    """A vision transformer on uint8 images (B, 3, H, W): features (B, D), no logits (B, 0)."""

    def __init__(self, model: nn.Module, output: str, size: int, mean_and_std: tuple) -> None:
        super().__init__()
        self.model, self.output, self.size = model, output, size
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in mean_and_std)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def preprocessing(self) -> str:
        """In words, as a part of the extractor's hash."""
        numbers = f"mean {self.mean.flatten().tolist()} std {self.std.flatten().tolist()}"
        return f"uint8/255, bicubic antialiased to {self.size}x{self.size}, {numbers}; {self.output}; v1"

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.float() / 255
        size = (self.size, self.size)
        pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True, align_corners=False)
        found = self.model(pixel_values=(pixels.clamp(0, 1) - self.mean) / self.std)
        features = getattr(found, self.output)
        return features, features.new_zeros(len(features), 0)


def load_transformer(kind: str, path: str | None) -> tuple[TransformerNet, int]:
    """The network of ``kind`` ("dinov2" or "clip") and the number of its features.

    Args:
        path: a folder or a hub id; None for the usual one.

    Raises:
        EvaluationError: it is not there and cannot be fetched, or is of another kind.
    """
    from transformers import AutoModel, CLIPVisionModelWithProjection

    source = path or DEFAULT_IDS[kind]
    if Path(source).expanduser().is_dir():
        source = str(Path(source).expanduser())
    loader = AutoModel if kind == "dinov2" else CLIPVisionModelWithProjection
    _check_kind(kind, source)
    try:
        model, report = loader.from_pretrained(source, output_loading_info=True)
    except Exception as error:  # the hub, safetensors and transformers each raise their own
        raise EvaluationError(_explain(kind, source, error)) from error
    if report["missing_keys"]:  # transformers would fill them with random numbers
        raise EvaluationError(
            f"extractor {kind}: {source} lacks weights: {', '.join(sorted(report['missing_keys']))}."
        )
    if kind == "dinov2":
        return TransformerNet(model, "pooler_output", DINOV2_SIZE, IMAGENET), model.config.hidden_size
    size = model.config.image_size
    return TransformerNet(model, "image_embeds", size, CLIP), model.config.projection_dim


def _check_kind(kind: str, source: str) -> None:
    """Told by the config, before hundreds of megabytes of weights of another kind are loaded (or made at random)."""
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(source).model_type
    except Exception as error:
        raise EvaluationError(_explain(kind, source, error)) from error
    accepted = {"dinov2": ("dinov2", "dinov2_with_registers"), "clip": ("clip", "clip_vision_model")}[kind]
    if found not in accepted:
        raise EvaluationError(
            f"extractor {kind}: {source} holds a model of type {found!r}, expected {' or '.join(accepted)}."
        )


def _explain(kind: str, source: str, error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return (
        f"extractor {kind}: {source} could not be loaded ({type(error).__name__}: {first}). Give a folder that "
        "save_pretrained wrote, or a hub id, with --extractor-path; a hub id that is not in the cache yet needs a "
        "network and HF_HUB_OFFLINE unset."
    )
