"""Stretches: how many of a group's numbers each target takes where F is ``singular``. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from .naming import Target


def stretch(rows: int, columns: int, directions: int) -> int:
    """How many numbers a target takes for itself: one a singular direction, or one an entry of a single row."""
    return columns if rows == 1 else min(directions, rows, columns)


def stretches(targets: Sequence[Target], directions: int) -> tuple[int, ...]:
    """How many each target takes.

    Args:
        targets: of a group.
        directions: most singular directions of a matrix.
    """
    return tuple(stretch(target.out_features, target.in_features, directions) for target in targets)


def stretched_count(lengths: Sequence[int], aligned: bool) -> int:
    """m: how many numbers a group takes.

    Args:
        lengths: its :func:`stretches`.
        aligned: whether all have the length of the longest, so that they are the rows of a matrix.
    """
    return len(lengths) * max(lengths) if aligned else sum(lengths)
