"""The cache folder: where it lies, and files in it that are written once and never seen half-written."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from superlora_diffusion.errors import DataError
from superlora_diffusion.files import write_atomically

Arrays = dict[str, np.ndarray]


def cache_root() -> Path:
    """``$SUPERLORA_CACHE``, else ``superlora-diffusion`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("SUPERLORA_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "superlora-diffusion"


def cached_arrays(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays of the npz at ``path``; if missing or damaged, made and stored by one process at a time.

    Raises:
        DataError: the cache folder cannot be written.
    """
    from filelock import FileLock

    try:
        # Looked for before the lock as well, so that a filled cache that is read-only can be used.
        if (arrays := _read(path)) is not None:
            return arrays
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if (arrays := _read(path)) is None:
                arrays = make()
                write_atomically(path, lambda partial: np.savez(partial, **arrays))
            return arrays
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read or written ({error}); the cache needs a writable folder with space. "
            "Name one in the environment variable SUPERLORA_CACHE."
        ) from error


def _read(path: Path) -> Arrays | None:
    """The arrays, or None where the file is missing or damaged: what is in the cache can be made again."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError, KeyError):
        return None
