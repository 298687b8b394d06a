"""A denoiser and the text encoders in front of it as one network, so that one adapter reaches into all of them.

Targets are called as in the pipeline: ``unet.down_blocks...``, ``text_encoder.text_model...``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .conditioning import Condition, move

if TYPE_CHECKING:
    from .base import Base

PROMPTS = "prompts"


class TextAndDenoiser(nn.Module):
    """Both parts of a base that takes text. A condition names prompts by numbers, and is encoded in the forward."""

    def __init__(self, base: Base, pipeline: Any) -> None:
        """Args: a base whose network is still the denoiser alone, and its text parts."""
        super().__init__()
        self.add_module(base.family.part, base.network)
        for name in base.family.encoders:
            if getattr(pipeline, name, None) is not None:
                self.add_module(name, getattr(pipeline, name))
        # Plain attributes: neither is a child of the network.
        object.__setattr__(self, "_base", base)
        object.__setattr__(self, "_pipeline", pipeline)
        self._numbers: dict[str, int] = {}

    @property
    def denoiser(self) -> nn.Module:
        """The part that denoises."""
        return getattr(self, self._base.family.part)

    @property
    def config(self) -> Any:
        """The denoiser's."""
        return self.denoiser.config

    @property
    def encoders(self) -> list[nn.Module]:
        """The text encoders there are."""
        names = self._base.family.encoders
        return [self.get_submodule(name) for name in names if hasattr(self, name)]

    def enable_gradient_checkpointing(self) -> None:
        """In all parts."""
        self.denoiser.enable_gradient_checkpointing()
        for encoder in self.encoders:
            encoder.gradient_checkpointing_enable()

    def number(self, prompts: Sequence[str]) -> Condition:
        """{prompts: (B,)}: the numbers by which a forward knows the prompts."""
        found = [self._numbers.setdefault(prompt, len(self._numbers)) for prompt in prompts]
        return {PROMPTS: torch.tensor(found, dtype=torch.long)}

    def embed(self, condition: Condition) -> Condition:
        """What the denoiser gets for numbered prompts; each different one is encoded once."""
        different, rows = condition[PROMPTS].unique(return_inverse=True)
        known = list(self._numbers)
        device, family = next(self.denoiser.parameters()).device, self._base.family
        embedded = family.embed(self._pipeline, [known[number] for number in different.tolist()], device)
        embedded = {name: values[rows.to(device)] for name, values in embedded.items()}
        return move(embedded, device, next(self.denoiser.parameters()).dtype)

    def forward(self, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
        """The denoiser's prediction, the prompts encoded first where that was not done before."""
        if PROMPTS in condition:
            condition = self.embed(condition)
        return self._base.family.predict(self._base, self.denoiser, noisy, times, condition)
