"""The table of scores that `eval-is` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.table import Table

from superlora_diffusion.evaluation.records import ScoreRecord

Cell = Callable[[ScoreRecord], str | None]


def _number(name: str, form: str) -> Cell:
    def cell(record: ScoreRecord) -> str | None:
        value = getattr(record, name)
        return None if value is None else format(value, form)

    return cell


def _score(record: ScoreRecord) -> str | None:
    return None if record.is_mean is None else f"{record.is_mean:.3f} ± {record.is_stderr:.3f}"


# Heading, text of the cell. ± is the standard error, as the heading says.
FIXED: tuple[tuple[str, Cell], ...] = (
    ("model", lambda record: record.name),
    ("parameters", lambda record: f"{record.parameters:,}"),
)
MEASURED: tuple[tuple[str, Cell], ...] = (
    ("IS ± s.e.", _score),
    ("IS real", _number("is_real", ".3f")),
    ("IS distance ↓", _number("is_distance", ".4f")),
    ("FID ↓", _number("fid", ".3f")),
    ("KID ↓", _number("kid", ".4f")),
    ("precision", _number("precision", ".3f")),
    ("recall", _number("recall", ".3f")),
    ("accuracy", _number("accuracy", ".1%")),
)


def scores_table(records: Sequence[ScoreRecord]) -> Table:
    """One row a record in the given order; under it how they were measured and what weakens them.

    A score that no record has gets no column. Where not all were measured alike, a column numbers the protocols
    and the caption spells out each.
    """
    protocols = _distinct(record.protocol for record in records)
    mixed = len(protocols) > 1
    table = Table(title="Scores", caption=_caption(records, protocols), caption_justify="left")
    columns = (*FIXED, *((heading, cell) for heading, cell in MEASURED if any(map(cell, records))))
    for heading, _ in columns:
        table.add_column(
            heading, justify="left" if heading == "model" else "right", no_wrap=heading != "model"
        )
    if mixed:
        table.add_column("measured", justify="right")
    for record in records:
        cells = [cell(record) or "-" for _, cell in columns]
        # Names come from folders, and a folder may be called [bold].
        cells[0] = cells[0].replace("[", r"\[")
        table.add_row(*cells, *([f"({protocols.index(record.protocol) + 1})"] if mixed else []))
    return table


def _caption(records: Sequence[ScoreRecord], protocols: list[str]) -> str:
    if len(protocols) > 1:
        protocols = [f"({number}) {protocol}" for number, protocol in enumerate(protocols, 1)]
        protocols.append(_advice(records))
    notes = _distinct(note for record in records for note in record.notes)
    return "\n".join([*protocols, *(f"note: {note}" for note in notes)])


# What tells protocols apart, and the option of eval-is that makes it one for all.
_OPTIONS = (
    ("N", "n", "--images"),
    ("splits", "splits", "--splits"),
    ("seed", "seed", "--seed"),
    ("extractor", "extractor", "--extractor"),
)


def _advice(records: Sequence[ScoreRecord]) -> str:
    """What differs, and the command that makes it alike."""
    text = "Only rows of the same number can be compared."
    for name, field, option in _OPTIONS:
        values = _distinct(str(getattr(record, field)) for record in records)
        if len(values) > 1:
            text += f" {name} differs ({', '.join(values)}): {option} sets it for all."
    if len({(record.extractor, record.extractor_hash) for record in records}) > len(
        {record.extractor for record in records}
    ):
        text += " An extractor's weights have changed: --again scores anew."
    return text


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
