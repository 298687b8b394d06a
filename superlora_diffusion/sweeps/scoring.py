"""Scores of a cell; its base, which many cells share, is drawn once for all of them."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from ..devices import resolve_device
from ..evaluation.accuracy import AccuracyRequest, evaluate_accuracy
from ..evaluation.evaluate import Request, evaluate_run
from ..evaluation.records import read_scores, write_scores
from ..runs.folder import RunFolder


def score_cell(run: Path, bases: Path, device: str) -> None:
    """Score a finished run as ``eval-is`` does, with the base's scores from ``bases``, or into it.

    A classifier is scored as ``eval-acc`` does, without its base.
    """
    chosen = resolve_device(device)
    if RunFolder(run).read_config().classifies:
        evaluate_accuracy(str(run), AccuracyRequest(only="adapter", device=chosen))
        return
    if RunFolder(run).read_config().method != "full":  # which leaves no base beside it
        _score_base(run, bases, Request(only="base", device=chosen))
    evaluate_run(str(run), Request(only="adapter", device=chosen), [])


def _score_base(run: Path, bases: Path, request: Request) -> None:
    bases.mkdir(parents=True, exist_ok=True)
    shared = bases / "scores.json"
    with FileLock(bases / "lock"):  # the first cell draws the base, the others wait for it
        known = read_scores(shared) if shared.is_file() else []
        write_scores(shared, evaluate_run(str(run), request, known))
