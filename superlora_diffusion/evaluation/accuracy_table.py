"""The tables that `eval-acc` prints, and their cells."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from superlora_diffusion.evaluation.accuracy_records import AccuracyRecord

NAMES, NUMBERS = ("model", "data"), ("parameters", "head", "accuracy", "95 %", "loss", "images")
"""Headings of the columns."""
_SHOWN = 20
"""Classes that get a row; of more, those that are named worst."""


def accuracy_table(records: Sequence[AccuracyRecord]) -> Table:
    """One row a record, in the given order."""
    table = Table(title="Accuracy on the test split")
    for heading in (*NAMES, *NUMBERS):
        table.add_column(heading, justify="left" if heading in NAMES else "right")
    for record in records:
        table.add_row(_plain(record.name), _plain(record.data), *numbers_of(record))
    return table


def numbers_of(record: AccuracyRecord) -> list[str]:
    """Cells under ``NUMBERS``."""
    low, high = record.accuracy_interval
    counts = [f"{record.parameters:,}", f"{record.head_parameters:,}"]
    return [
        *counts,
        f"{record.accuracy:.2%}",
        f"{low:.1%} to {high:.1%}",
        f"{record.loss:.4f}",
        f"{record.n:,}",
    ]


def classes_table(records: Sequence[AccuracyRecord]) -> Table:
    """One row a class, one column a record; of many classes those that the last record names worst."""
    told = [{one.name: one for one in record.classes} for record in records]
    names = list(dict.fromkeys(name for found in told for name in found))
    if len(names) > _SHOWN:
        last = told[-1]
        names = sorted((name for name in names if name in last), key=lambda name: last[name].accuracy)
    caption = f"the {_SHOWN} worst of {len(names)}; --json has all" if len(names) > _SHOWN else None
    table = Table(title="Accuracy by class", caption=caption)
    table.add_column("class")
    for record in records:
        table.add_column(f"{_plain(record.name)} on {_plain(record.data)}", justify="right")
    for name in names[:_SHOWN]:
        cells = (found.get(name) for found in told)
        table.add_row(_plain(name), *("-" if one is None else f"{one.accuracy:.1%}" for one in cells))
    return table


def _plain(text: str) -> str:
    """Names come from folders and files, and one may be called [bold]."""
    return text.replace("[", r"\[")
