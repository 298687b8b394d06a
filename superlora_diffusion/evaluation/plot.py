"""The paper's picture: Inception Score distance against the number of trained parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.chart import Chart, Point, save_chart
from superlora_diffusion.evaluation.records import ScoreRecord


def plot_front(records: Sequence[ScoreRecord], path: str | Path) -> None:
    """One point a record, the Pareto front through the best, and the base, which has no parameters, as a dashed line.

    The distance's bar is the standard error of the generated images' score.

    Raises:
        EvaluationError: no records, none with an IS distance, or records that were not measured alike.
        SuperLoRAError: the file cannot be written.
    """
    records = list(records)
    _check(records, Path(path))
    records = [record for record in records if record.is_distance is not None]
    points = [
        Point(record.name, record.parameters, record.is_distance, record.is_stderr)
        for record in records
        if record.parameters > 0
    ]
    bases = [(record.name, record.is_distance) for record in records if record.parameters == 0]
    caption = f"bars: standard error of the score; grey line: Pareto front\n{records[0].protocol}"
    save_chart(Chart(points, bases, "IS distance |IS - IS of real images|", caption), path)


def _check(records: list[ScoreRecord], path: Path) -> None:
    if not records:
        raise EvaluationError(
            f"{path}: there is no record to plot; expected at least one. Run `eval-is` first."
        )
    if all(record.is_distance is None for record in records):
        raise EvaluationError(
            f"{path}: no record has an IS distance, which the plot shows. Score with `is` among --metrics, "
            "or draw another score with `superlora-diff report RUNS --out plot.png --score fid`."
        )
    protocols = sorted({record.protocol for record in records})
    if len(protocols) > 1:
        raise EvaluationError(
            f"{path}: the records were measured in different ways and cannot share a plot: "
            f"{'; '.join(protocols)}. Score all of them with the same N, splits, seed and extractor."
        )
