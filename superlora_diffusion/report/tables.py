"""Tables for papers and for other programs: CSV with a row a run, LaTeX with a row a setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..files import csv_text
from .collect import Run
from .compare import Estimate, View, protocol_of
from .metrics import Metric

COLUMNS = (
    "setting", "family", "target", "parameters", "seed", "lr", "steps", "val_loss", "is_distance", "fid", "kid",
    "accuracy", "precision", "recall", "is_mean", "is_stderr", "status", "protocol", "path",
)  # fmt: skip
_OF_THE_RECORD = ("is_distance", "fid", "kid", "accuracy", "precision", "recall", "is_mean", "is_stderr")
_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$"}


def write_csv(runs: Sequence[Run]) -> str:
    """A row a run and protocol, unfinished and unscored runs included; values in full, empty where there is none."""
    return csv_text(COLUMNS, (row for run in runs for row in _rows_of(run)))


def _rows_of(run: Run) -> Iterator[dict[str, Any]]:
    newest = {protocol_of(record): record for record in run.records}
    for protocol, record in newest.items() or [("", None)]:
        scores = {name: getattr(record, name, None) for name in _OF_THE_RECORD}
        yield {**_run_columns(run), **scores, "protocol": protocol}


def _run_columns(run: Run) -> dict[str, Any]:
    return {
        "setting": run.setting,
        "family": run.family,
        "target": run.target,
        "parameters": run.parameters,
        "seed": run.seed,
        "lr": run.config.learning_rate if run.config else None,
        "steps": run.config.train.steps if run.config else None,
        "val_loss": run.val_loss,
        "status": run.status,
        "path": str(run.path),
    }


def write_latex(view: View, title: str) -> str:
    """A booktabs table: a row a setting, mean and deviation over its seeds, the best of each score in bold."""
    metrics = view.metrics()
    best = {m.key: _best([e.mean for _, e in view.values(m)], m) for m in metrics}
    rows = [
        " & ".join(
            [
                escape_latex(setting.name),
                escape_latex(setting.family),
                f"{setting.parameters:,}".replace(",", "{,}"),
                *(_cell(setting.scores.get(m.key), m, best[m.key]) for m in metrics),
            ]
        )
        for setting in view.settings
    ]
    heads = ["setting", "family", "parameters"]
    heads += [f"{escape_latex(m.short)} {_ARROWS[m.higher_is_better]}" for m in metrics]
    lines = [
        "% Needs \\usepackage{booktabs}.",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{escape_latex(title)}. {escape_latex(_caption(view))}}}",
        f"  \\begin{{tabular}}{{ll{'r' * (1 + len(metrics))}}}",
        "    \\toprule",
        f"    {' & '.join(heads)} \\\\",
        "    \\midrule",
        *(f"    {row} \\\\" for row in rows),
        *_base_lines(view, metrics),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(view: View) -> str:
    return f"Mean and sample standard deviation over seeds (one seed: standard error). {view.protocol}."


def _base_lines(view: View, metrics: Sequence[Metric]) -> list[str]:
    lines = ["    \\midrule"] if view.bases else []
    for name, values in view.bases:
        cells = [m.write(values[m.key]) if m.key in values else "--" for m in metrics]
        lines.append(f"    {' & '.join([escape_latex(name), 'base', '0', *cells])} \\\\")
    return lines


def _best(means: Sequence[float], metric: Metric) -> float:
    return max(means) if metric.higher_is_better else min(means)


def _cell(e: Estimate | None, metric: Metric, best: float) -> str:
    if e is None:
        return "--"
    mean = metric.write(e.mean)
    text = f"\\mathbf{{{mean}}}" if e.mean == best else mean
    return f"${text}$" if e.error is None else f"${text} \\pm {metric.write(e.error)}$"


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))
