"""What a batch is asked to be, as the network sees it: tensors whose rows are images.

A condition is a dict of tensors, each (B, ...): class indices, text embeddings, or nothing at all.
"""

from __future__ import annotations

import torch
from torch import Tensor

Condition = dict[str, Tensor]


def drop_condition(
    condition: Condition, null: Condition, probability: float, generator: torch.Generator
) -> Condition:
    """Replace rows by the null condition, each with the given probability (Ho & Salimans 2022, section 3.2).

    Args:
        condition: of B images.
        null: one row, with the same names.
        generator: a CPU generator, so that the choice does not depend on the device.
    """
    count = rows_in(condition)
    dropped = torch.rand((count,), generator=generator) < probability
    return {
        name: torch.where(
            dropped.to(rows.device).reshape(-1, *[1] * (rows.dim() - 1)), null[name].to(rows), rows
        )
        for name, rows in condition.items()
    }


def rows_in(condition: Condition) -> int:
    """Of how many images a condition speaks; 0 for none."""
    return next((len(rows) for rows in condition.values()), 0)


def take_rows(condition: Condition, chosen: Tensor | slice) -> Condition:
    """The condition of some of the images."""
    return {name: rows[chosen] for name, rows in condition.items()}


def join_rows(first: Condition, second: Condition) -> Condition:
    """Two batches as one."""
    return {name: torch.cat([rows, second[name]]) for name, rows in first.items()}


def repeat_row(condition: Condition, count: int) -> Condition:
    """A condition of one row for ``count`` images, without copies."""
    return {name: rows.expand(count, *rows.shape[1:]) for name, rows in condition.items()}


def move(condition: Condition, device: torch.device, dtype: torch.dtype | None = None) -> Condition:
    """A condition on a device, its floating-point tensors in a type."""
    return {
        name: rows.to(device, dtype if rows.is_floating_point() else None) for name, rows in condition.items()
    }


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: u + scale * (c - u), all (B, C, H, W) (Ho & Salimans 2022, equation 6).

    ``scale`` 1 is the conditional prediction itself.
    """
    return torch.lerp(unconditional, conditional, scale)
