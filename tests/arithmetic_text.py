"""Evaluates printed formulas, independently of what printed them."""

from __future__ import annotations

import re


def evaluate(formula: str) -> int:
    """The value of "12 x (A_1: 37 x 5 + core: 1,000)": labels dropped, then plain arithmetic."""
    plain = re.sub(r"[A-Za-z_][\w.]*: ", "", formula).replace(",", "").replace(" x ", " * ")
    assert re.fullmatch(r"[\d*+() ]+", plain), plain
    return eval(plain)


def check_equation(text: str) -> int:
    """The right side of "... = 8,160", after checking that the left side has that value."""
    left, _, right = text.partition(" = ")
    total = evaluate(right)
    assert evaluate(left) == total, text
    return total
