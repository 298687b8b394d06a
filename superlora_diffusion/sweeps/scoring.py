"""Scores of a cell; its base, which many cells share, is drawn once for all of them."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from ..devices import resolve_device
from ..evaluation.evaluate import Request, evaluate_run
from ..evaluation.records import read_scores, write_scores


def score_cell(run: Path, bases: Path, device: str) -> None:
    """Score a finished run as ``eval-is`` does, with the base's scores from ``bases``, or into it."""
    bases.mkdir(parents=True, exist_ok=True)
    shared = bases / "scores.json"
    request = {"device": resolve_device(device)}
    with FileLock(bases / "lock"):  # the first cell draws the base, the others wait for it
        known = read_scores(shared) if shared.is_file() else []
        base = evaluate_run(str(run), Request(only="base", **request), known)
        if base:
            write_scores(shared, base)
    evaluate_run(str(run), Request(only="adapter", **request), [])
