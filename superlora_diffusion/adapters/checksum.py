"""What identifies the fixed arrays of an adapter: integers exactly, Gaussians up to their last bits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import torch
from torch import Tensor

_INTEGERS = ("signs", "permutation", "outer_signs", "mixing", "indices", "frequencies")
_EXACT = ("left", "right", "entries")  # followed by a number; looked at only where they are stored
_CHUNK = 2**20  # numbers widened at once: long arrays are summed up in little memory


def checksum(groups: Iterable[dict[str, Tensor]]) -> dict[str, object] | None:
    """What identifies arrays: integers and singular directions exactly, Gaussians by eight sums with a tolerance.

    None where nothing is drawn.
    """
    digest, sums, seen = hashlib.sha256(), torch.zeros(8, dtype=torch.float64), False
    for arrays in groups:
        for name in _INTEGERS:
            if name in arrays:
                seen = True
                for part in arrays[name].reshape(-1).split(_CHUNK):
                    digest.update(part.cpu().to(torch.int64).numpy().tobytes())
        for name in sorted(arrays):
            if name.startswith(_EXACT):
                seen = True
                digest.update(f"{name} {tuple(arrays[name].shape)}".encode())
                digest.update(arrays[name].cpu().contiguous().numpy().tobytes())
        if "gaussian" in arrays:
            sums += _sketch(arrays["gaussian"])
    return {"integers": digest.hexdigest(), "gaussian": sums.tolist()} if seen else None


def _sketch(gaussian: Tensor) -> Tensor:
    """Eight fixed combinations (8,) of the entries, of the order of 1 each."""
    frequencies = 0.1 + 0.37 * torch.arange(8, dtype=torch.float64)
    sums = torch.zeros(8, dtype=torch.float64)
    for index, part in enumerate(gaussian.split(_CHUNK)):
        places = index * _CHUNK + torch.arange(part.shape[0], dtype=torch.float64)
        sums += torch.cos(frequencies[:, None] * places) @ part.cpu().double()
    return sums / math.sqrt(gaussian.shape[0])


def checksums_agree(a: dict | None, b: dict | None) -> bool:
    """Whether two checksums mean the same arrays, up to the last bits of the Gaussians."""
    if a is None or b is None:
        return a is b
    sums = (torch.tensor(value["gaussian"], dtype=torch.float64) for value in (a, b))
    return a["integers"] == b["integers"] and torch.allclose(*sums, rtol=1e-5, atol=1e-4)
