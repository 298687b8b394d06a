"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import SuperLoRAError


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file under a temporary name beside ``path``, then rename it.

    A reader never sees half a file, and a failing or interrupted write leaves the old file as it was.

    Raises:
        SuperLoRAError: naming the file, where the system refuses (no such place, no rights, a full disk).
    """
    with atomic_file(path) as partial:
        write(partial)


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends, or vanishes when it fails.

    Raises:
        SuperLoRAError: naming the file, where the system refuses.
    """
    path = Path(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(0o666 & ~_umask())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def write_folder_atomically(folder: Path | str, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary folder beside ``folder``, then put it in the place of ``folder``.

    Raises:
        SuperLoRAError: naming the folder, where the system refuses.
    """
    folder = Path(folder)
    with explain_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            write(partial)
            for path in (partial, *partial.rglob("*")):
                path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    """The process's mask. mkstemp makes files for their owner alone; ours get the rights that a plain open gives."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into a message that names ``path``."""
    try:
        yield
    except Exception as error:
        # safetensors has an error of its own for a full disk; its name is all that is known here.
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
            raise
        reason = getattr(error, "strerror", None) or error
        raise SuperLoRAError(f"{path} cannot be written: {reason}. Choose another place.") from error


def write_text(path: Path | str, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV below a line of names; None is empty.

    Raises:
        ValueError: for a value that has no column.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_json(path: Path | str, value: Any) -> None:
    """Write a JSON file atomically, indented, with a line end."""
    write_text(path, json.dumps(value, indent=2) + "\n")
