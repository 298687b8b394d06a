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


def fastfood_matrix(n: int, m: int, arrays) -> np.ndarray:
    """F (n, m) = S H diag(G) P H diag(B), S = sqrt(d / m) * sqrt(d) / |G|."""
    signs, gaussian = (arrays[name].numpy().astype(np.float64) for name in ("signs", "gaussian"))
    d = len(gaussian)
    h = sylvester(d)
    inner = (h * signs)[arrays["permutation"].numpy(), :m] * gaussian[:, None]
    return math.sqrt(d / m) * math.sqrt(d) / np.linalg.norm(gaussian) * (h[:n] @ inner)
