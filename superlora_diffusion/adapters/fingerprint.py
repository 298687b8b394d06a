"""Telling weights apart: a cheap fingerprint that fp16, bf16 and fp32 copies share, and a hash of every bit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

_PROBES = 8
_SAMPLES = 256  # entries looked at a weight, so that a large base costs little more than a small one
_TOLERANCE = 0.02  # bf16 rounding moves a probe by about 0.003, another base by about 1


def fingerprint(weights: Mapping[str, Tensor]) -> dict[str, object]:
    """Names and shapes as a hash; values as eight normalised sums and the norm, which rounding barely moves.

    Args:
        weights: the base's weights by name.
    """
    shapes = "\n".join(f"{name} {tuple(weights[name].shape)}" for name in sorted(weights))
    sampled = torch.cat([_sample(weights[name]) for name in sorted(weights)])
    places = torch.arange(1, len(sampled) + 1, dtype=torch.float64)
    probes = torch.stack([torch.cos(places * (0.61 + 0.293 * k)) for k in range(_PROBES)])
    norm = sampled.norm().clamp_min(1e-12)
    values = [*(probes @ sampled / norm).tolist(), math.log(norm)]
    return {
        "shapes": hashlib.sha256(shapes.encode()).hexdigest()[:16],
        "values": [round(value, 6) for value in values],
    }


def _sample(weight: Tensor) -> Tensor:
    flat = weight.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLES)].double().cpu()


def fingerprints_agree(a: Mapping, b: Mapping) -> bool:
    """Whether two fingerprints mean the same base, whatever its floating-point type."""
    if a["shapes"] != b["shapes"] or len(a["values"]) != len(b["values"]):
        return False
    return all(abs(x - y) <= _TOLERANCE for x, y in zip(a["values"], b["values"], strict=True))


def exact_digest(tensors: Mapping[str, Tensor], told: str = "") -> str:
    """First 12 hex digits of sha256 over names, types, shapes and bytes in name order, then over ``told``.

    ``told`` is what else decides about the result, such as how a network's input is prepared.
    """
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        # view(uint8) wants at least one dimension.
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    digest.update(told.encode())
    return digest.hexdigest()[:12]
