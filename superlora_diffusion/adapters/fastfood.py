"""Fastfood (Le et al. 2013, arXiv 1408.3060): y = S H diag(G) P H diag(B) x, padded to one power of two.

S = sqrt(d / m) * sqrt(d) / |G|, so that entries keep their variance. ``fastfood`` is the readable reference; ``spread``
and ``pull_back`` are the map and its transpose without gradient, equal to it.

Since x is zero beyond its m numbers, the inner transform is the transform of b numbers (b the power of two >= m),
repeated d / b times: P then picks from b numbers, which stay in cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..randomness import generator_for
from .arithmetic import power_of_two_above
from .hadamard import chunk_for, hadamard_transform, transform
from .permutation import draw_permutation


def draw(n: int, seed: int, group: int) -> dict[str, Tensor]:
    """signs (d,) int8, permutation (d,) and gaussian (d,), drawn in this order; d = the power of two >= n."""
    generator = generator_for("projection", seed, group)
    d = power_of_two_above(n)
    signs = (torch.randint(0, 2, (d,), generator=generator) * 2 - 1).to(torch.int8)
    permutation = draw_permutation(d, generator)
    gaussian = torch.randn(d, generator=generator, dtype=torch.float32)
    return {"signs": signs, "permutation": permutation, "gaussian": gaussian}


def fastfood(x: Tensor, n: int, signs: Tensor, permutation: Tensor, gaussian: Tensor) -> Tensor:
    """y = S H diag(G) P H diag(B) x, cut to n.

    Args:
        x: (m,), padded with zeros to d.
        n: how many entries are kept, m <= n <= d.
        signs, permutation, gaussian: (d,) each.
    """
    d, m = gaussian.shape[0], x.shape[0]
    z = hadamard_transform(F.pad(x, (0, d - m)) * signs)
    z = z.index_select(0, permutation) * gaussian
    return hadamard_transform(z)[:n] * _scale(m, gaussian)


def spread(x: Tensor, out: Tensor, signs: Tensor, permutation: Tensor, gaussian: Tensor) -> None:
    """Write the first len(out) entries of y; x (m,)."""
    d, m = gaussian.shape[0], x.shape[0]
    b = power_of_two_above(m)
    inner = F.pad(x * signs[:m], (0, b - m)) * (_scale(m, gaussian) * math.sqrt(b / d))
    inner = transform(inner)
    z = torch.empty(d, dtype=x.dtype, device=x.device)
    for part in _chunks(gaussian):
        torch.index_select(inner, 0, permutation[part] & (b - 1), out=z[part])
        z[part].mul_(gaussian[part])
    out.copy_(transform(z)[: out.shape[0]])


def pull_back(grad: Tensor, m: int, signs: Tensor, permutation: Tensor, gaussian: Tensor) -> Tensor:
    """The transpose: gradient of y's first len(grad) entries to gradient of x (m,)."""
    d, b = gaussian.shape[0], power_of_two_above(m)
    z = torch.zeros(d, dtype=grad.dtype, device=grad.device)
    z[: grad.shape[0]] = grad
    z = transform(z)
    inner = torch.zeros(b, dtype=grad.dtype, device=grad.device)
    for part in _chunks(gaussian):
        inner.index_add_(0, permutation[part] & (b - 1), z[part].mul_(gaussian[part]))
    inner = transform(inner) * (_scale(m, gaussian) * math.sqrt(b / d))
    return inner[:m] * signs[:m]


def _scale(m: int, gaussian: Tensor) -> Tensor:
    d = gaussian.shape[0]
    return math.sqrt(d / m) * math.sqrt(d) / torch.linalg.vector_norm(gaussian)


def _chunks(gaussian: Tensor) -> Iterator[slice]:
    d, step = gaussian.shape[0], chunk_for(gaussian)
    return (slice(start, min(start + step, d)) for start in range(0, d, step))
