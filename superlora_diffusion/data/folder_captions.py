"""Captions of an image folder: metadata.jsonl or metadata.csv as `datasets` has them, or 1.txt beside 1.png."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from superlora_diffusion.errors import DataError, nearest

METADATA = ("metadata.jsonl", "metadata.csv")
FILE_COLUMN = "file_name"
CAPTION_COLUMNS = ("text", "caption", "prompt")
"""The first of these that a file has, where no column is named."""

Row = tuple[int, dict[str, Any]]  # number of the line, from 1; its values by column


def read_captions(root: Path, images: Sequence[Path], column: str | None) -> dict[Path, str] | None:
    """The caption of each image, or None where the folder has no captions at all.

    Metadata files are looked for in ``root`` and in the folders between it and the images; ``file_name`` is
    relative to the file that says it. Spaces and line ends around a caption are dropped, and those within a
    text file become single spaces.

    Raises:
        DataError: metadata and text files both, a metadata file that is broken or names images that are not
            there or are named twice, no caption column, an image without caption.
    """
    tables = _metadata_files(root, images)
    beside = [image for image in images if image.with_suffix(".txt").is_file()]
    if tables and beside:
        raise DataError(
            f"{root}: has captions of two kinds, {tables[0]} and {beside[0].with_suffix('.txt')}; expected one "
            "kind. Remove the other."
        )
    if tables:
        captions = _from_tables(root, tables, images, column)
    elif beside:
        captions = {image: _read_text(image.with_suffix(".txt")) for image in beside}
    else:
        return None
    _refuse_missing(root, images, captions)
    return captions


def _metadata_files(root: Path, images: Sequence[Path]) -> list[Path]:
    found = []
    holding = {image.parent for image in images}
    for folder in sorted(
        {root, *holding, *(up for low in holding for up in low.parents if root in up.parents)}
    ):
        there = [folder / name for name in METADATA if (folder / name).is_file()]
        if len(there) > 1:
            raise DataError(f"{folder}: holds both {' and '.join(METADATA)}; expected one. Remove the other.")
        found += there
    return found


def _from_tables(
    root: Path, tables: list[Path], images: Sequence[Path], column: str | None
) -> dict[Path, str]:
    by_place = {os.path.normpath(image): image for image in images}
    captions: dict[Path, str] = {}
    unknown = []
    for table in tables:
        for line, name, caption in _read_table(table, column):
            place = os.path.normpath(table.parent / name)
            image = by_place.get(place)
            if image is None:
                unknown.append(place)
            elif image in captions:
                raise DataError(f"{table}: line {line} names {name}, which has a caption already; keep one.")
            else:
                captions[image] = caption
    if unknown:
        _refuse_unknown(root, unknown)
    return captions


def _read_table(table: Path, column: str | None) -> Iterator[tuple[int, str, str]]:
    """(line, file name, caption) of each row of a metadata file."""
    rows = list(
        (_jsonl_rows if table.suffix == ".jsonl" else _csv_rows)(table, _read_text(table, whole=True))
    )
    chosen = _caption_column(table, rows, column)
    for line, row in rows:
        name, caption = row.get(FILE_COLUMN), row.get(chosen)
        if not isinstance(name, str) or not name.strip():
            raise DataError(
                f"{table}: line {line} has the {FILE_COLUMN} {name!r}, expected the name of an image relative "
                "to this file's folder."
            )
        if not isinstance(caption, str | None):
            raise DataError(f"{table}: line {line} has the {chosen} {caption!r}, expected a text in quotes.")
        yield line, name.strip(), (caption or "").strip()


def _jsonl_rows(table: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{table}: line {number} is no JSON ({error}); expected one object a line, as in "
                '{"file_name": "1.png", "text": "a cat"}.'
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{table}: line {number} is {line.strip()[:60]}, expected an object in braces.")
        yield number, row


def _csv_rows(table: Path, text: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row:  # a caption with a comma, cut there, would go unnoticed
                raise DataError(
                    f"{table}: line {reader.line_num} has more values than the first line has columns; put "
                    "captions that hold commas in double quotes."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{table}: line {reader.line_num} is no CSV ({error}); correct it.") from error


def _caption_column(table: Path, rows: list[Row], column: str | None) -> str:
    found = list(dict.fromkeys(key for _, row in rows for key in row))
    for name in (column,) if column is not None else CAPTION_COLUMNS:
        if name in found:
            return name
    wanted = repr(column) if column is not None else " or ".join(map(repr, CAPTION_COLUMNS))
    raise DataError(
        f"{table}: has no column {wanted}, where captions are looked for; it has {', '.join(found) or 'none'}."
        f"{nearest(column, found) if column else ''} Set data.caption_column to the one with the captions, or "
        "remove the file if there are none."
    )


def _read_text(file: Path, whole: bool = False) -> str:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text in UTF-8 ({error}). Save it anew.") from error
    return text if whole else " ".join(text.split())


def _refuse_unknown(root: Path, places: list[str]) -> None:
    gone = [place for place in places if not os.path.exists(place)]
    if gone:
        raise DataError(
            f"{root}: the metadata names {len(gone)} files that are not there: {_first(gone)}. Add them, or take "
            "their lines out."
        )
    raise DataError(
        f"{root}: the metadata names {len(places)} files that are not read as images of the data: "
        f"{_first(places)}. Where there are class folders, or train and test, images lie in these; move them "
        "there, or take their lines out."
    )


def _refuse_missing(root: Path, images: Sequence[Path], captions: dict[Path, str]) -> None:
    missing = sorted(image for image in images if not captions.get(image))
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of {len(images)} images have no caption: {_first(missing)}. Give every image "
            "one, or none."
        )


def _first(items: Sequence[object]) -> str:
    return ", ".join(map(str, items[:3])) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
