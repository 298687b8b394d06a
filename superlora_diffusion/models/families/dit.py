"""DiT: ``DiTTransformer2DModel`` of ``DiTPipeline`` (Peebles & Xie 2022, arXiv 2212.09748).

Latents, class indices, and a learned variance beside the noise. The variance's channels are left as they are: the
loss looks at the noise alone, and the samplers take their own variances, as ``DiTPipeline`` does.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from ...errors import BaseModelError
from ..base import Base
from ..conditioning import Condition
from .classes import ClassConditional
from .latents import Latent


class DiT(Latent, ClassConditional):
    """A transformer on latents, asked for a class."""

    name, title = "dit", "DiT: classes, latents, learned variance"
    network, part = "DiTTransformer2DModel", "transformer"
    sampling = MappingProxyType({"steps": 25, "guidance_scale": 4.0})

    def load_network(self, folder: str, **options: Any) -> nn.Module:
        """Its own dropout of classes is switched off: the settings of the run alone decide about that."""
        from diffusers.models.embeddings import LabelEmbedding

        network = super().load_network(folder, **options)
        for module in network.modules():
            if isinstance(module, LabelEmbedding):
                module.dropout_prob = 0.0
        return network

    def embedded_classes(self, base: Base) -> int:
        """All classes, and the one behind them that means none."""
        return base.network.config.num_embeds_ada_norm + 1

    def known_null_class(self, base: Base) -> int:
        """The one behind all others."""
        return base.network.config.num_embeds_ada_norm

    def known_class_names(self, base: Base) -> list[str] | None:
        """``id2label`` of the pipeline; of several names the first."""
        labels = base.parts.index.get("id2label")
        if not labels:
            return None
        ordered = sorted(labels.items(), key=lambda item: int(item[0]))
        return [str(names).split(",")[0].strip() for _, names in ordered]

    def size_fault(self, base: Base, height: int, width: int) -> str | None:
        """It puts its patches together as a square."""
        return None if height == width else "works on squares alone"

    def check(self, base: Base) -> None:
        """One or two channels out for each channel in."""
        config = base.network.config
        if config.out_channels not in (config.in_channels, 2 * config.in_channels):
            raise BaseModelError(
                f"base {base.name!r} predicts {config.out_channels} channels from {config.in_channels}; equally many, "
                "or twice as many (a learned variance), are accepted."
            )

    def predict(
        self, base: Base, network: nn.Module, noisy: Tensor, times: Tensor, condition: Condition
    ) -> Tensor:
        """The noise alone."""
        said = network(noisy, timestep=times.expand(len(noisy)), **condition).sample
        return said[:, : noisy.shape[1]]


FAMILY = DiT()
