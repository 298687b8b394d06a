"""Classifiers: transformers' ``ViTForImageClassification``, the base of task classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import BaseModelError
from .config import VitSettings

if TYPE_CHECKING:
    from transformers import ViTConfig

_HALF = (0.5, 0.5, 0.5)


class Head(nn.Linear):
    """The layer that names the classes. It works in its own precision, whatever the backbone's."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, hidden) to logits (B, classes)."""
        return super().forward(tokens.to(self.weight.dtype))


@dataclass
class Classifier:
    """What training and scoring need to know of a classifier.

    What an adapter is attached to is the backbone alone, so that patterns never take the head, and an adapter's
    fingerprint of its base does not depend on it.
    """

    network: nn.Module
    """A ``ViTForImageClassification``."""
    class_names: tuple[str, ...]
    """What the head tells apart; empty where there is no head yet."""
    name: str
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF
    """Of each channel, by which images in [0, 1] are normalised."""
    head_trains: bool = False
    """Whether the head trains beside what is attached."""

    @property
    def adapted(self) -> nn.Module:
        """What adapters and peers are attached to."""
        return self.network.base_model

    @property
    def head(self) -> nn.Module:
        """The layer that names the classes."""
        return self.network.classifier

    @property
    def size(self) -> int:
        """Side of the square images, in pixels."""
        return self.network.config.image_size

    @property
    def channels(self) -> int:
        """Of the images: 1 or 3."""
        return self.network.config.num_channels

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """In which the backbone is held."""
        return next(self.adapted.parameters()).dtype

    @property
    def classes(self) -> int:
        """How many classes the head tells apart."""
        return len(self.class_names)

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """What of the head trains beside an adapter, by name; empty for a frozen head."""
        return dict(self.head.named_parameters()) if self.head_trains else {}

    def put_head(self, class_names: Sequence[str]) -> None:
        """A new head for other classes, all zero: every class is equally likely until it has learnt."""
        old = next(self.adapted.parameters())
        head = Head(self.network.config.hidden_size, len(class_names), device=old.device, dtype=torch.float32)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.network.classifier = head
        self.class_names = tuple(class_names)
        name_classes(self.network.config, self.class_names)

    def logits(self, images: Tensor, network: nn.Module | None = None) -> Tensor:
        """Logits (B, classes) in fp32.

        Args:
            images: (B, C, h, w) in [-1, 1], of any size; brought to the network's.
            network: the classifier's own, or what wraps it.
        """
        called = self.network if network is None else network
        return called(pixel_values=self.pixels(images).to(self.dtype)).logits.float()

    def pixels(self, images: Tensor) -> Tensor:
        """(B, C, h, w) in [-1, 1] as the network gets them: of its size, normalised."""
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(values, device=images.device) for values in (self.mean, self.std))
        return ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]

    def enable_gradient_checkpointing(self) -> None:
        """Trade time for memory; an adapter's gradients need the kind that does not re-enter autograd."""
        enable = getattr(
            self.network, "activation_checkpointing_enable", None
        )  # its name since transformers 5
        (enable or self.network.gradient_checkpointing_enable)({"use_reentrant": False})


def name_classes(config: ViTConfig, class_names: Sequence[str]) -> None:
    """Note in a network's config what its classes are called."""
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: index for index, name in enumerate(class_names)}


def vit_config(settings: VitSettings, class_names: Sequence[str] = ()) -> ViTConfig:
    """transformers' own settings of a fresh network."""
    from transformers import ViTConfig

    config = ViTConfig(
        image_size=settings.image_size,
        patch_size=settings.patch_size,
        num_channels=settings.channels,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=round(settings.hidden_size * settings.mlp_ratio),
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
    )
    if class_names:
        name_classes(config, class_names)
    return config


def build_classifier(settings: VitSettings, class_names: Sequence[str]) -> Classifier:
    """A randomly initialised classifier (torch's global generator decides the weights)."""
    from transformers import ViTForImageClassification

    network = ViTForImageClassification(vit_config(settings, class_names))
    own = _HALF[: settings.channels]
    classifier = Classifier(network, tuple(class_names), "fresh", own, own)
    wrap_head(classifier)
    return classifier


def backbone_of(config: ViTConfig) -> nn.Module:
    """What adapters are attached to, of a network with this config, on the default device."""
    from transformers import ViTForImageClassification

    return ViTForImageClassification(config).base_model


def wrap_head(classifier: Classifier) -> None:
    """Turn the network's own last layer, as transformers made or read it, into a :class:`Head` in fp32."""
    old = classifier.network.classifier
    head = Head(old.in_features, old.out_features, device=old.weight.device, dtype=torch.float32)
    head.load_state_dict(old.state_dict())
    classifier.network.classifier = head


def require_vit(config: dict[str, Any], where: str) -> None:
    """Refuse, by BaseModelError, the config.json of another network than a ViT on square images of 1 or 3 channels."""
    if config.get("model_type") != "vit":
        kind = config.get("model_type") or config.get("_class_name") or "network of no known kind"
        raise BaseModelError(f"{where} holds a {kind}; a ViT of transformers (model_type vit) is accepted.")
    size, channels = config.get("image_size", 224), config.get("num_channels", 3)
    if not isinstance(size, int) or channels not in (1, 3):
        raise BaseModelError(
            f"{where} takes images of {size} px and {channels} channels; squares (one number) of 1 or 3 channels are "
            "accepted."
        )


def is_classifier(folder: Path) -> bool:
    """Whether a folder is a network of transformers, not a pipeline of diffusers."""
    return (folder / "config.json").is_file() and not (folder / "model_index.json").is_file()
