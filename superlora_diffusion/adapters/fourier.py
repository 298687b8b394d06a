"""Fourier: m numbers are coefficients at m random frequencies; y is the real part of the inverse transform.

    y_t = sqrt(n / m) sum_j x_j phi_j(t),   phi_j(t) = sqrt(2 / n) cos(theta) or -sqrt(2 / n) sin(theta),
    theta = 2 pi (k_1 t_1 / rows + k_2 t_2 / columns)

t and the frequencies k are places of a grid (rows, columns): (out, in) of a group that is one whole matrix, as in
FourierFT (Gao et al. 2024, arXiv 2405.03003), else (1, n).

Which frequencies: k and -k have the same cosine, so that half of all n frequencies would give every cosine, and the
other half each of them again. Only one of each pair is drawn, at random: a real coefficient, a cosine. If m is larger
than the number of pairs, about n / 2, the same frequencies follow with imaginary coefficients: sines, except at those
up to four frequencies with k = -k, whose sine is zero; there phi is sqrt(1 / n) cos(theta). Together these are n
orthonormal functions. So no number is lost and no two are the same, the map is exactly sqrt(n / m) times an isometry,
and entries keep their variance.

Frequencies are counted in the half spectrum (rows, columns // 2 + 1) that a real transform has. Below half the
weights an update is even, y(t) = y(-t), as every update of FourierFT is. O(n log n) operations and 4 m bytes of arrays.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..randomness import generator_for

Grid = tuple[int, int]


def draw(grid: Grid, m: int, seed: int, group: int) -> dict[str, Tensor]:
    """frequencies (m,): places in the half spectrum; first of cosines, then, if they are not enough, of sines.

    Args:
        grid: (rows, columns) of the grid.
        m: numbers generated for it.
        seed, group: what the generator is seeded by.
    """
    generator = generator_for("projection", seed, group)
    cosines, sines = _independent(grid)
    frequencies = cosines[torch.randperm(len(cosines), generator=generator)]
    if m > len(cosines):
        more = sines[torch.randperm(len(sines), generator=generator)]
        frequencies = torch.cat([frequencies, more])
    return {"frequencies": frequencies[:m].to(torch.int32 if math.prod(grid) < 2**31 else torch.int64)}


def _independent(grid: Grid) -> tuple[Tensor, Tensor]:
    """Places of all cosines, and of all sines, in the half spectrum; together n.

    Only in its first column, and the last one of an even number, are k and -k both in it: there the first of them.
    """
    rows, width = grid[0], grid[1] // 2 + 1
    chosen = torch.ones(rows, width, dtype=torch.bool)
    chosen[rows // 2 + 1 :, _edges(grid[1])] = False
    cosines = chosen.view(-1).nonzero().view(-1)
    chosen[_edges(rows), _edges(grid[1])] = False
    return cosines, chosen.view(-1).nonzero().view(-1)


def _edges(length: int) -> slice:
    """The frequencies k of an axis with k = -k: 0, and length / 2 of an even one."""
    return slice(None, None, length if length % 2 else length // 2)


def count_cosines(grid: Grid) -> int:
    """How many different cosines a grid has: one of each pair k, -k."""
    rows, columns = grid
    alone = (2 - rows % 2) * (2 - columns % 2)
    return (rows * columns + alone) // 2


def fourier(x: Tensor, grid: Grid, frequencies: Tensor) -> Tensor:
    """The whole map at once, by a complex transform: the readable twin of :func:`spread`, differentiable.

    Args:
        x: (m,).
        grid: (rows, columns) of the grid.
        frequencies: (m,), as :func:`draw` makes them.

    Returns:
        (rows * columns,).
    """
    rows, columns = grid
    n, width = rows * columns, columns // 2 + 1
    k = frequencies.long()
    first, second = k // width, k % width
    alone = (2 * first % rows == 0) & (2 * second % columns == 0)
    imaginary = torch.arange(len(k), device=k.device) >= count_cosines(grid)
    squares = torch.where(alone, 1.0, 2.0).to(x.dtype) * (n / len(k))
    values = x * squares.sqrt()
    places = 2 * (first * columns + second) + imaginary
    spectrum = torch.zeros(2 * n, dtype=values.dtype, device=x.device).scatter(0, places, values)
    spectrum = torch.view_as_complex(spectrum.view(rows, columns, 2))
    return torch.fft.ifft2(spectrum, norm="ortho").real.reshape(-1)


def spread(x: Tensor, out: Tensor, grid: Grid, frequencies: Tensor) -> None:
    """Write the first len(out) entries of y, by a real transform."""
    y = _inverse(_half_spectrum(x, grid, frequencies), grid[1])
    out.copy_(y.view(-1)[: out.shape[0]])


def _half_spectrum(x: Tensor, grid: Grid, frequencies: Tensor) -> Tensor:
    """Complex (rows, columns // 2 + 1): what a real transform, scaled to be orthogonal, makes y of."""
    (rows, columns), cosines = grid, count_cosines(grid)
    spectrum = torch.zeros(rows, columns // 2 + 1, 2, dtype=x.dtype, device=x.device)
    flat, values = spectrum.view(-1, 2), x * math.sqrt(rows * columns / len(x) / 2)
    flat[:, 0].index_add_(0, frequencies[:cosines], values[:cosines])  # each place once; it takes 32 bits
    flat[:, 1].index_add_(0, frequencies[cosines:], values[cosines:])
    spectrum[_edges(rows), _edges(columns)] *= math.sqrt(2)
    _mirror(spectrum, columns)
    return torch.view_as_complex(spectrum)


def _mirror(spectrum: Tensor, columns: int) -> None:
    """Where k and -k are both in the half spectrum, -k gets the conjugate of what k has."""
    rows, edges = spectrum.shape[0], _edges(columns)
    pairs = (rows - 1) // 2
    spectrum[rows - pairs :, edges] = spectrum[1 : pairs + 1, edges].flip(0)
    spectrum[rows - pairs :, edges, 1] *= -1


def _inverse(spectrum: Tensor, columns: int) -> Tensor:
    """irfft2, without the pass over a single row, which would cost as much as the other one."""
    if spectrum.shape[0] > 1:
        spectrum = torch.fft.ifft(spectrum, dim=0, norm="ortho")
    return torch.fft.irfft(spectrum, columns, norm="ortho")


def pull_back(grad: Tensor, m: int, grid: Grid, frequencies: Tensor) -> Tensor:
    """The transpose: gradient of y's first len(grad) entries to gradient of x (m,)."""
    rows, columns = grid
    whole = F.pad(grad, (0, rows * columns - grad.shape[0])).view(rows, columns)
    spectrum = torch.view_as_real(torch.fft.rfft2(whole, norm="ortho"))
    spectrum[_edges(rows), _edges(columns)] *= math.sqrt(0.5)
    flat, cosines = spectrum.reshape(-1, 2), count_cosines(grid)
    real = flat[:, 0].index_select(0, frequencies[:cosines])
    imaginary = flat[:, 1].index_select(0, frequencies[cosines:])
    return torch.cat([real, imaginary]) * math.sqrt(2 * rows * columns / m)
