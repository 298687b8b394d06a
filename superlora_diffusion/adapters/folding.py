"""Folding: the shape of the tensor whose first m entries are the generated numbers (arXiv 2403.11887, section 3.2)."""

from __future__ import annotations

from .arithmetic import ceil_div, ceil_root, round_up


def square_sides(m: int, order: int, side_multiple: int = 1) -> tuple[int, ...]:
    """``order`` equal sides: ceil(m^(1/order)), rounded up to a multiple."""
    return (round_up(ceil_root(m, order), side_multiple),) * order


def matrix_sides(m: int, columns: int) -> tuple[int, int]:
    """(ceil(m / columns), columns): the fold "none" of a group that is no single whole matrix."""
    return ceil_div(m, columns), columns


def kronecker_square_side(m: int, split_factor: int, splits: int, side_multiple: int = 1) -> int:
    """Side of the factored matrix: ceil(ceil(sqrt(m)) / f^(K-1)), rounded up to a multiple."""
    return round_up(ceil_div(ceil_root(m, 2), split_factor ** (splits - 1)), side_multiple)


def kronecker_matrix_sides(rows: int, columns: int, split_factor: int, splits: int) -> tuple[int, int]:
    """(ceil(rows / f^(K-1)), ceil(columns / f^(K-1))): the factored matrix under fold "none"."""
    product = split_factor ** (splits - 1)
    return ceil_div(rows, product), ceil_div(columns, product)
