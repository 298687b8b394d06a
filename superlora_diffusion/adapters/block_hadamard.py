"""Block Hadamard: a cheap spread of m numbers over n weights in blocks of b, by signs and small transforms.

    u_p = P_p H diag(B_p) x_p             for each of the c blocks x_p of x (zeros fill up the last)
    v_k = sum_p Q_kp u_p                  for each of the r blocks of y
    y_k = sqrt(b / m) H diag(D_k) v_k

x is cut into c = ceil(m / b) blocks, y has r = ceil(n / b); B and D are random signs, P_p are permutations, and Q is
the corner (c, r) of a Hadamard matrix, of signs too (no Q where c = 1). Weight i of the group is entry i // r of block
i mod r, so that the cut at n takes alike of all blocks.

It is a block form of the subsampled randomised Hadamard transform (Balabanov et al. 2022, arXiv 2210.11295) with two
transforms and two diagonals of signs, as structured orthogonal features have (Yu et al. 2016, arXiv 1610.09072);
Fastfood stacks its blocks for n > m in the same way (Le et al. 2013, section 3). With n = r b, and c = 1 or r a power
of two, it is exactly sqrt(n / m) times an isometry. Against one Fastfood padded to a power of two it needs no n
Gaussians and no permutation of n, generates at most 1,024 numbers or an eighth of n too many, and each block stays in
cache: O(n log b) operations and n + 5 m bytes of arrays.

Why Q is not drawn: few random signs are often dependent (at c = r = 2 in half of all draws), and then a whole block
of numbers is lost. A corner of a Hadamard matrix has rank c for every c <= r, because its leading minors are not
zero; B and D make the signs of its rows and columns random.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..randomness import generator_for
from .arithmetic import ceil_div, power_of_two_above
from .hadamard import chunk_for, transform_first_axis
from .permutation import draw_permutation

SMALLEST, USUAL = 2**10, 2**12
"""Blocks are at least so long (shorter ones take few distinct values), and longer only where x has many blocks."""
_MOST_INNER = 64
_FEWEST_COLUMNS = 16  # narrower strips make matrix products too small to be fast


def block_side(n: int, m: int) -> int:
    """b, a power of two: one block holds x where that is cheap, and little more than n is generated.

    Args:
        n: weights of the group.
        m: numbers generated for it.
    """
    if n <= SMALLEST:
        return power_of_two_above(n)
    wanted = min(power_of_two_above(m), max(USUAL, power_of_two_above(ceil_div(m, _MOST_INNER))))
    little_waste = 1 << max(n // 8, 1).bit_length() - 1
    return max(SMALLEST, min(wanted, little_waste))


def draw(n: int, m: int, seed: int, group: int) -> dict[str, Tensor]:
    """signs (c, b) int8, permutation (c, b) within a block, outer_signs (b, r) int8; for c > 1 mixing (c, r) int8.

    Drawn in this order, r = ceil(n / b); mixing is not random.
    """
    generator = generator_for("projection", seed, group)
    b = block_side(n, m)
    c, r = ceil_div(m, b), ceil_div(n, b)
    arrays = {
        "signs": _signs((c, b), generator),
        "permutation": torch.stack([draw_permutation(b, generator) for _ in range(c)]),
        "outer_signs": _signs((b, r), generator),
    }
    if c > 1:
        arrays["mixing"] = _hadamard_signs(c, r)
    return arrays


def _signs(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator, dtype=torch.int8) * 2 - 1


def _hadamard_signs(rows: int, columns: int) -> torch.Tensor:
    """The corner of Sylvester's matrix: -1 where i and j have an odd number of binary ones in common."""
    common = torch.arange(rows)[:, None] & torch.arange(columns)
    for shift in (32, 16, 8, 4, 2, 1):
        common = common ^ (common >> shift)
    return (1 - 2 * (common & 1)).to(torch.int8)


def block_hadamard(
    x: Tensor, n: int, signs: Tensor, permutation: Tensor, outer_signs: Tensor, mixing: Tensor | None = None
) -> Tensor:
    """The whole map at once: the readable twin of :func:`spread`, differentiable.

    Args:
        x: (m,).
        n: how many entries are kept.
        signs, permutation, outer_signs, mixing: as :func:`draw` makes them.
    """
    v = _mixed(_inner(x, signs, permutation), mixing, slice(None))
    return transform_first_axis(v * outer_signs).reshape(-1)[:n]


def _inner(x: Tensor, signs: Tensor, permutation: Tensor) -> Tensor:
    """sqrt(b / m) u, as columns (b, c)."""
    c, b = signs.shape
    padded = F.pad(x, (0, c * b - x.shape[0])).view(c, b) * signs
    u = transform_first_axis(padded.t().contiguous())
    return u.gather(0, permutation.t().long()) * math.sqrt(b / x.shape[0])


def spread(
    x: Tensor,
    out: Tensor,
    signs: Tensor,
    permutation: Tensor,
    outer_signs: Tensor,
    mixing: Tensor | None = None,
) -> None:
    """Write the first len(out) entries of y, a strip of blocks at a time."""
    r = outer_signs.shape[1]
    u = _inner(x, signs, permutation)
    # Only so many entries of the blocks are kept, of the first ones one more.
    rows, rest = divmod(out.shape[0], r)
    whole, last = out[: rows * r].view(rows, r), out[rows * r :]
    for part in _strips(outer_signs):
        strip = transform_first_axis(_mixed(u, mixing, part) * outer_signs[:, part])
        whole[:, part] = strip[:rows]
        if part.start < rest:
            kept = last[part]
            kept.copy_(strip[rows, : kept.shape[0]])


def _mixed(u: Tensor, mixing: Tensor | None, part: slice) -> Tensor:
    """The blocks v_k of a strip: (b, strip), or the one column they share."""
    return u if mixing is None else u @ mixing[:, part].to(u.dtype)


def pull_back(
    grad: Tensor,
    m: int,
    signs: Tensor,
    permutation: Tensor,
    outer_signs: Tensor,
    mixing: Tensor | None = None,
) -> Tensor:
    """The transpose: gradient of y's first len(grad) entries to gradient of x (m,)."""
    b, r = outer_signs.shape
    c = signs.shape[0]
    rows, rest = divmod(grad.shape[0], r)
    whole, last = grad[: rows * r].view(rows, r), grad[rows * r :]
    gradient = torch.zeros(b, c, dtype=grad.dtype, device=grad.device)
    for part in _strips(outer_signs):
        strip = torch.zeros(b, min(part.stop, r) - part.start, dtype=grad.dtype, device=grad.device)
        strip[:rows] = whole[:, part]
        if part.start < rest:
            kept = last[part]
            strip[rows, : kept.shape[0]] = kept
        strip = transform_first_axis(strip) * outer_signs[:, part]
        if mixing is None:
            gradient += strip.sum(1, keepdim=True)
        else:
            gradient.addmm_(strip, mixing[:, part].to(grad.dtype).t())
    spread_back = torch.zeros_like(gradient).scatter_(0, permutation.t().long(), gradient)
    inner = transform_first_axis(spread_back).t() * signs
    return inner.reshape(-1)[:m] * math.sqrt(b / m)


def _strips(outer_signs: Tensor):
    b, r = outer_signs.shape
    step = max(_FEWEST_COLUMNS, chunk_for(outer_signs) // b)
    return (slice(start, min(start + step, r)) for start in range(0, r, step))
