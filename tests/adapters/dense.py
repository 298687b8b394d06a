"""Fixed maps as explicit matrices, built in numpy from the drawn arrays by the formulas of their docstrings."""

from __future__ import annotations

import math
from functools import cache

import numpy as np


@cache
def sylvester(size: int) -> np.ndarray:
    """The normalised Hadamard matrix: the Kronecker power of [[1, 1], [1, -1]]."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.kron(matrix, [[1, 1], [1, -1]])
    return matrix / math.sqrt(size)


def block_hadamard_matrix(n: int, m: int, arrays) -> np.ndarray:
    """F (n, m): u_p = P_p H diag(B_p) x_p; v_k = sum_p Q_kp u_p; y_k = sqrt(b / m) H diag(D_k) v_k."""
    signs, permutation, outer_signs = (
        arrays[name].numpy().astype(np.int64) for name in ("signs", "permutation", "outer_signs")
    )
    (c, b), r = signs.shape, outer_signs.shape[1]
    mixing = arrays["mixing"].numpy() if c > 1 else np.ones((1, r))
    h = sylvester(b)
    u = [h[permutation[p]] * signs[p] for p in range(c)]  # (b, b) each: rows permuted, columns signed
    matrix = np.empty((b, r, c, b))  # entry j of block k of y is weight j * r + k
    for k in range(r):
        outer = math.sqrt(b / m) * h * outer_signs[:, k]
        for p in range(c):
            matrix[:, k, p] = mixing[p, k] * (outer @ u[p])
    return matrix.reshape(b * r, c * b)[:n, :m]


def gather_matrix(n: int, m: int, arrays) -> np.ndarray:
    """F (n, m): weight i takes number p_i; columns of norm sqrt(n / m)."""
    matrix = (arrays["indices"].numpy()[:, None] == np.arange(m)).astype(np.float64)
    return matrix * math.sqrt(n / m) / np.sqrt(matrix.sum(0))


def fourier_matrix(grid: tuple[int, int], m: int, arrays) -> np.ndarray:
    """F (rows * columns, m): cosines, then minus sines; columns of norm sqrt(n / m)."""
    rows, columns = grid
    n, width = rows * columns, columns // 2 + 1
    first, second = np.divmod(arrays["frequencies"].numpy().astype(np.int64), width)
    t_1, t_2 = np.divmod(np.arange(n), columns)
    angles = 2 * np.pi * (np.outer(t_1, first) / rows + np.outer(t_2, second) / columns)
    pairs = {frozenset({k, (-k[0] % rows, -k[1] % columns)}) for k in np.ndindex(rows, columns)}
    matrix = np.where(np.arange(m) < len(pairs), np.cos(angles), -np.sin(angles))
    return matrix * math.sqrt(n / m) / np.linalg.norm(matrix, axis=0)


def singular_matrix(n: int, m: int, arrays) -> np.ndarray:
    """F (n, m): a column vec(l_j r_j^T) a direction of each target, one target's block after the other's."""
    matrix, row, column = np.zeros((n, m)), 0, 0
    for i in range(len(arrays) // 2):
        left, right = (arrays[f"{side}{i}"].numpy().astype(np.float64) for side in ("left", "right"))
        size = len(left) * right.shape[1]
        for j in range(len(right)):
            matrix[row : row + size, column + j] = np.outer(left[:, j], right[j]).reshape(-1)
        row, column = row + size, column + len(right)
    return matrix


def fastfood_matrix(n: int, m: int, arrays) -> np.ndarray:
    """F (n, m) = S H diag(G) P H diag(B), S = sqrt(d / m) * sqrt(d) / |G|."""
    signs, gaussian = (arrays[name].numpy().astype(np.float64) for name in ("signs", "gaussian"))
    d = len(gaussian)
    h = sylvester(d)
    inner = (h * signs)[arrays["permutation"].numpy(), :m] * gaussian[:, None]
    return math.sqrt(d / m) * math.sqrt(d) / np.linalg.norm(gaussian) * (h[:n] @ inner)
