"""The table of scores that `eval-is` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from superlora_diffusion.evaluation.records import ScoreRecord

# Heading, text of the cell. ± is the standard error, as the heading says.
COLUMNS = (
    ("model", lambda record: record.name),
    ("parameters", lambda record: f"{record.parameters:,}"),
    ("IS ± s.e.", lambda record: f"{record.is_mean:.3f} ± {record.is_stderr:.3f}"),
    ("IS real", lambda record: f"{record.is_real:.3f}"),
    ("IS distance ↓", lambda record: f"{record.is_distance:.4f}"),
    ("FID ↓", lambda record: f"{record.fid:.3f}"),
    ("accuracy", lambda record: "-" if record.accuracy is None else f"{record.accuracy:.1%}"),
)


def scores_table(records: Sequence[ScoreRecord]) -> Table:
    """One row a record in the given order; under it how they were measured and what weakens them.

    Where not all were measured alike, a column numbers the protocols and the caption spells out each.
    """
    protocols = _distinct(record.protocol for record in records)
    mixed = len(protocols) > 1
    table = Table(title="Scores", caption=_caption(records, protocols), caption_justify="left")
    for heading, _ in COLUMNS:
        table.add_column(
            heading, justify="left" if heading == "model" else "right", no_wrap=heading != "model"
        )
    if mixed:
        table.add_column("measured", justify="right")
    for record in records:
        cells = [cell(record) for _, cell in COLUMNS]
        # Names come from folders, and a folder may be called [bold].
        cells[0] = cells[0].replace("[", r"\[")
        table.add_row(*cells, *([f"({protocols.index(record.protocol) + 1})"] if mixed else []))
    return table


def _caption(records: Sequence[ScoreRecord], protocols: list[str]) -> str:
    if len(protocols) > 1:
        protocols = [f"({number}) {protocol}" for number, protocol in enumerate(protocols, 1)]
    notes = _distinct(note for record in records for note in record.notes)
    return "\n".join([*protocols, *(f"note: {note}" for note in notes)])


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
