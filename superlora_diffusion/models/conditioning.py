"""Classes as the network sees them: dropout to the null class, and one batch for guidance."""

from __future__ import annotations

import torch
from torch import Tensor


def drop_classes(labels: Tensor, null_class: int, probability: float, generator: torch.Generator) -> Tensor:
    """Replace each label by the null class with the given probability (Ho & Salimans 2022, section 3.2).

    Args:
        labels: (B,) class indices.
        generator: a CPU generator, so that the choice does not depend on the device.
    """
    dropped = torch.rand(labels.shape, generator=generator) < probability
    return torch.where(dropped.to(labels.device), torch.full_like(labels, null_class), labels)


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: u + scale * (c - u), all (B, C, H, W) (Ho & Salimans 2022, equation 6).

    ``scale`` 1 is the conditional prediction itself.
    """
    return torch.lerp(unconditional, conditional, scale)
