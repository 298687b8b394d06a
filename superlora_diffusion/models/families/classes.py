"""Conditioning by class indices, shared by the families that have it."""

from __future__ import annotations

import torch

from ..base import Base
from ..conditioning import Condition
from .family import Asked, Family

LABELS = "class_labels"


class ClassConditional(Family):
    """A family whose networks take class indices, or nothing."""

    def embedded_classes(self, base: Base) -> int | None:
        """How many indices the network embeds, the null class among them; None where it embeds none."""
        return base.network.config.num_class_embeds

    def known_null_class(self, base: Base) -> int | None:
        """The null class where the network itself says it."""
        return None

    def known_class_names(self, base: Base) -> list[str] | None:
        """Names of the classes where the pipeline says them."""
        return None

    def condition(self, base: Base, asked: Asked, device: torch.device) -> Condition:
        """{class_labels: (B,)}, or nothing for an unconditional base."""
        if base.classes is None or asked is None:
            return {}
        return {LABELS: torch.as_tensor(asked, dtype=torch.long).to(device)}

    def null_condition(self, base: Base, device: torch.device, negative: str = "") -> Condition:
        """The null class."""
        null = base.require_null_class("guidance or class dropout")
        return {LABELS: torch.full((1,), null, dtype=torch.long, device=device)}
