"""The fixed map F from m generated numbers to n weights: none, shuffle, fastfood (Le et al. 2013, arXiv 1408.3060).

The arrays *are* part of the model: they are drawn on the CPU from a generator of their own, seeded by a hash of
(config seed, group index), and never from global state.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..randomness import generator_for
from .arithmetic import power_of_two_above

Arrays = dict[str, Tensor]

_LARGEST_RADIX = 64  # measured: matrix products of side 16 to 64 beat butterflies by far


def draw_arrays(kind: str, n: int, seed: int, group: int) -> Arrays:
    """The fixed arrays of one group, drawn in the order signs B, permutation P, Gaussian G.

    Returns:
        {} for "none"; permutation (n,) for "shuffle"; signs (d,) int8, permutation (d,) and gaussian (d,) for the
        others, d = the power of two >= n.
    """
    if kind == "none":
        return {}
    generator = generator_for("projection", seed, group)
    if kind == "shuffle":
        return {"permutation": _permutation(n, generator)}
    d = power_of_two_above(n)
    signs = (torch.randint(0, 2, (d,), generator=generator) * 2 - 1).to(torch.int8)
    permutation = _permutation(d, generator)
    gaussian = torch.randn(d, generator=generator, dtype=torch.float32)
    return {"signs": signs, "permutation": permutation, "gaussian": gaussian}


def _permutation(length: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(length, generator=generator)
    return order.to(torch.int32) if length < 2**31 else order


def project(kind: str, x: Tensor, n: int, arrays: Arrays) -> Tensor:
    """y = F(x): (m,) -> (n,)."""
    if kind == "none":
        return x
    if kind == "shuffle":
        return x.index_select(0, arrays["permutation"])
    y = fastfood(x, n, **arrays)
    return torch.tanh(y) if kind == "fastfood_tanh" else y


def fastfood(x: Tensor, n: int, signs: Tensor, permutation: Tensor, gaussian: Tensor) -> Tensor:
    """y = S H diag(G) P H diag(B) x, cut to n, with S = sqrt(d / m) * sqrt(d) / |G|: entries keep their variance.

    Args:
        x: (m,), padded with zeros to d.
        n: how many entries are kept, m <= n <= d.
        signs, permutation, gaussian: (d,) each.
    """
    d, m = gaussian.shape[0], x.shape[0]
    scale = math.sqrt(d / m) * math.sqrt(d) / torch.linalg.vector_norm(gaussian)
    z = hadamard_transform(F.pad(x, (0, d - m)) * signs)
    z = z.index_select(0, permutation) * gaussian
    return hadamard_transform(z)[:n] * scale


def hadamard_transform(x: Tensor) -> Tensor:
    """Normalised Walsh-Hadamard transform of (d,), d a power of two, by one matrix product a radix.

    H_d is the Kronecker product of small Hadamard matrices. Each product transforms the fastest axis and moves
    it to the front; after all radices the order is as before.
    """
    for radix in _radices(x.shape[0]):
        x = hadamard_matrix(radix, x.dtype, x.device) @ x.reshape(-1, radix).t()
    return x.reshape(-1)


def _radices(d: int) -> list[int]:
    """Powers of two with product d, as few as fit and as even as possible (so 16 to 64 for large d)."""
    bits = d.bit_length() - 1
    count = max(1, math.ceil(bits / (_LARGEST_RADIX.bit_length() - 1)))
    return [2 ** (bits // count + (i < bits % count)) for i in range(count)]


def hadamard_matrix(
    size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """The normalised Hadamard matrix (size, size) in Sylvester's order, size a power of two."""
    if torch.compiler.is_compiling():  # a trace must not look into the cache
        return _build_hadamard_matrix(size, dtype, device)
    return _cached_hadamard_matrix(size, dtype, str(device))


@lru_cache(maxsize=32)
def _cached_hadamard_matrix(size: int, dtype: torch.dtype, device: str) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():  # an inference tensor could not be used in training
        return _build_hadamard_matrix(size, dtype, device)


def _build_hadamard_matrix(size: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    matrix = torch.ones(1, 1, dtype=dtype, device=device)
    step = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=dtype, device=device)
    while matrix.shape[0] < size:
        matrix = torch.kron(matrix, step)
    return matrix / math.sqrt(size)


def checksum(groups: Iterable[Arrays]) -> dict[str, object] | None:
    """What identifies drawn arrays: integers exactly, Gaussians by eight sums compared with a tolerance.

    None where nothing is drawn.
    """
    digest, sums, seen = hashlib.sha256(), torch.zeros(8, dtype=torch.float64), False
    for arrays in groups:
        for name in ("signs", "permutation"):
            if name in arrays:
                seen = True
                digest.update(arrays[name].cpu().to(torch.int64).numpy().tobytes())
        if "gaussian" in arrays:
            sums += _sketch(arrays["gaussian"].cpu())
    return {"integers": digest.hexdigest(), "gaussian": sums.tolist()} if seen else None


def _sketch(gaussian: Tensor) -> Tensor:
    """Eight fixed combinations (8,) of the entries, of the order of 1 each."""
    places = torch.arange(gaussian.shape[0], dtype=torch.float64)
    waves = torch.stack([torch.cos(places * (0.1 + 0.37 * k)) for k in range(8)])
    return waves @ gaussian.double() / math.sqrt(gaussian.shape[0])


def checksums_agree(a: dict | None, b: dict | None) -> bool:
    """Whether two checksums mean the same arrays, up to the last bits of the Gaussians."""
    if a is None or b is None:
        return a is b
    sums = (torch.tensor(value["gaussian"], dtype=torch.float64) for value in (a, b))
    return a["integers"] == b["integers"] and torch.allclose(*sums, rtol=1e-5, atol=1e-4)
