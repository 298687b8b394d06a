"""Conditioning by text, shared by the families that have it. diffusers' own ``encode_prompt`` does the encoding."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch

from ..base import Base
from ..conditioning import Condition
from .family import Asked, Family


class TextConditional(Family):
    """A family whose networks take embeddings of prompts."""

    conditioning = "text"
    pipeline: ClassVar[str]
    """The pipeline of diffusers whose ``encode_prompt`` is used, made of its text parts alone."""
    encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    text_targets = ("q_proj", "v_proj")

    @property
    def text_parts(self) -> tuple[str, ...]:
        """Text encoders and their tokenizers."""
        return (*self.encoders, *(name.replace("text_encoder", "tokenizer") for name in self.encoders))

    def condition(self, base: Base, asked: Asked, device: torch.device) -> Condition:
        """Embeddings of prompts; each different one is encoded once."""
        prompts = list(asked or ())
        different = list(dict.fromkeys(prompts))
        encoded = self.encode_prompts(base, different, device)
        rows = torch.tensor([different.index(prompt) for prompt in prompts])
        return {name: values[rows.to(values.device)] for name, values in encoded.items()}

    def null_condition(self, base: Base, device: torch.device, negative: str = "") -> Condition:
        """The empty prompt, or a negative one."""
        return self.encode_prompts(base, [negative], device)

    @torch.no_grad()
    def encode_prompts(self, base: Base, prompts: list[str], device: torch.device) -> Condition:
        """Embeddings of prompts, a few at a time."""
        pipeline = self.text_pipeline(base, device)
        parts = [
            self.embed(pipeline, prompts[start : start + 32], device) for start in range(0, len(prompts), 32)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @abstractmethod
    def embed(self, pipeline: Any, prompts: list[str], device: torch.device) -> Condition:
        """What the network gets for prompts, by the pipeline's own ``encode_prompt``."""

    def text_pipeline(self, base: Base, device: torch.device) -> Any:
        """The pipeline without denoiser and autoencoder, on a device."""
        return base.parts.pipeline(self.pipeline, self.text_parts).to(device)
