"""Exact integer sizes: no floating-point slip in roots and ratios."""

from __future__ import annotations

from fractions import Fraction


def ceil_div(a: int, b: int) -> int:
    """The smallest integer >= a / b, for b > 0."""
    return -(-a // b)


def ceil_root(value: int, order: int) -> int:
    """The smallest integer r with r ** order >= value, for value >= 0."""
    low, high = 0, 1 << ceil_div(max(value, 1).bit_length(), order)
    while low < high:
        middle = (low + high) // 2
        if middle**order >= value:
            high = middle
        else:
            low = middle + 1
    return low


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is >= value."""
    return ceil_div(value, multiple) * multiple


def generated_count(ratio: Fraction, n: int) -> int:
    """m = max(1, ceil(rho * n)): how many numbers are generated for n weights."""
    return max(1, ceil_div(ratio.numerator * n, ratio.denominator))


def power_of_two_above(n: int) -> int:
    """The smallest power of two >= n, for n >= 1."""
    return 1 << (n - 1).bit_length()
