"""Our points beside the published ones: as a table to read before, and as a file after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from superlora_diffusion.files import csv_text
from superlora_diffusion.sweeps.results import Row
from superlora_diffusion.sweeps.table import summarise

from .experiment import Line

COLUMNS = (
    "move", "setting", "published_setting", "published_parameters", "published_share", "published_is_distance",
    "parameters", "share", "seeds", "lr", "is_distance", "is_distance_std", "fid", "val_loss",
)  # fmt: skip


def plan_text(lines: Sequence[Line]) -> str:
    """What each setting trains here and in the paper, as counts and as shares of the targets' weights."""
    head = ("published", "parameters", "of N", "here", "parameters", "of N")
    rows = [head, *(_plan_row(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            word.ljust(width) if column in (0, 3) else word.rjust(width)
            for column, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _plan_row(line: Line) -> tuple[str, ...]:
    point = line.point
    there = (point.name, f"{point.count:,}", f"{float(point.share):.3%}")
    return (*there, line.setting, f"{line.count:,}", f"{float(line.share):.3%}")


def compare(lines: Sequence[Line], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row a line, with the means over its seeds; scores that are not there yet are None."""
    measured = {row["setting"]: row for row in summarise(rows)}
    return [_compared(line, measured.get(line.setting, {})) for line in lines]


def _compared(line: Line, row: Row) -> dict[str, Any]:
    published = line.point.published
    return {
        "move": line.move.name,
        "setting": line.setting,
        "published_setting": published.setting if published else "dense (not published)",
        "published_parameters": line.point.count,
        "published_share": float(line.point.share),
        "published_is_distance": published.is_distance if published else None,
        "parameters": line.count,
        "share": float(line.share),
        **{name: row.get(name) for name in COLUMNS[8:]},
    }


def as_csv(compared: Sequence[dict[str, Any]]) -> str:
    """The comparison as CSV; what is not known is empty."""
    return csv_text(COLUMNS, compared)


def scores_text(compared: Sequence[dict[str, Any]]) -> str:
    """A line a setting that is scored: published IS distance and ours."""
    return "\n".join(_scored(row) for row in compared if row["is_distance"] is not None)


def _scored(row: dict[str, Any]) -> str:
    there, spread = row["published_is_distance"], row["is_distance_std"]
    ours = f"{row['is_distance']:.4f}" + ("" if spread is None else f" ± {spread:.4f}")
    told = "not published" if there is None else f"{there:.4f} published"
    return f"{row['setting']}: {row['parameters']:,} numbers, IS distance {ours} ({told})"
