"""The sweep's tables: a row a run, and a row a setting with mean and deviation over seeds; CSV and Parquet."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet
from rich.table import Table

from ..files import write_atomically
from .results import COLUMNS, HEAD, RACE, SCORES, Row

_TEXT = ("setting", "family", "target")
_WHOLE = ("parameters", "head_parameters", "seed", "steps", "seeds", "race_steps")
SHARED = ("setting", "family", "target", "parameters", "lr", "steps")
MEASURED = ("val_loss", "is_distance", "fid", "kid", "accuracy", "precision", "recall")


def summarise(rows: Iterable[Row]) -> list[Row]:
    """One row a setting: mean and sample standard deviation over its seeds (None with one seed, or no value)."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["setting"], row["target"]), []).append(row)
    return [_summary(group) for group in groups.values()]


def _summary(group: list[Row]) -> Row:
    summary = {name: group[0].get(name) for name in (*SHARED, *HEAD, *RACE)} | {"seeds": len(group)}
    for name in MEASURED:
        values = [row[name] for row in group if row.get(name) is not None]
        summary[name] = statistics.fmean(values) if values else None
        summary[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return summary


def write_tables(folder: Path, rows: Sequence[Row]) -> None:
    """Write ``results`` (a row a run) and ``summary`` (a row a setting) as CSV and Parquet, each atomically."""
    extra = [name for name in (*SCORES, *HEAD, *RACE) if name not in COLUMNS]
    _write(folder / "results", rows, [*COLUMNS, *extra])
    summary = summarise(rows)
    measured = [column for name in MEASURED for column in (name, f"{name}_std")]
    _write(folder / "summary", summary, [*SHARED, "seeds", *measured, *HEAD, *RACE])


def _write(stem: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    schema = pyarrow.schema([(name, _type(name)) for name in columns])
    table = pyarrow.Table.from_pylist(list(rows), schema=schema)
    write_atomically(stem.with_name(f"{stem.name}.csv"), lambda path: pyarrow.csv.write_csv(table, path))
    write_atomically(
        stem.with_name(f"{stem.name}.parquet"), lambda path: pyarrow.parquet.write_table(table, path)
    )


def _type(name: str) -> pyarrow.DataType:
    if name in _TEXT:
        return pyarrow.string()
    return pyarrow.int64() if name in _WHOLE else pyarrow.float64()


def cells_table(cells: Sequence[dict[str, Any]]) -> Table:
    """What ``--dry-run`` prints: a row a cell."""
    table = Table(title="Cells")
    for heading in ("cell", "parameters", "learning rate", "state"):
        table.add_column(heading, justify="left" if heading in ("cell", "state") else "right")
    for cell in cells:
        count = "-" if cell["parameters"] is None else f"{cell['parameters']:,}"
        rate = "searched" if cell["learning_rate"] is None else f"{cell['learning_rate']:g}"
        state = (
            f"refused: {cell['error']}" if cell["error"] else ("finished" if cell["finished"] else "to do")
        )
        table.add_row(*(text.replace("[", r"\[") for text in (cell["cell"], count, rate, state)))
    return table
