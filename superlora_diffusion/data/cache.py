"""The cache folder: where it lies, and files in it that are written once and never seen half-written."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from superlora_diffusion.errors import ConfigError, DataError, nearest
from superlora_diffusion.files import write_atomically

Arrays = dict[str, np.ndarray]
T = TypeVar("T")
SHELF_NOTES = {
    "synthdigits": "rendered digits, made again when they are needed",
    "torchvision": "downloaded data sets",
    "latents": "latents of training images, encoded again when they are needed",
    "embeddings": "embeddings of captions, encoded again when they are needed",
    "features": "features of real images, computed again when they are needed",
}


@dataclass(frozen=True)
class CacheShelf:
    """One folder of the cache: everything of one kind."""

    name: str
    path: Path
    files: int
    size: int
    """Bytes."""

    @property
    def note(self) -> str:
        """What it holds, in words."""
        return SHELF_NOTES.get(self.name, "")


def list_cache() -> list[CacheShelf]:
    """What the cache folder holds, by kind; empty if there is no such folder."""
    root = cache_root()
    shelves = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_dir():
            files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
            shelves.append(
                CacheShelf(folder.name, folder, len(files), sum(path.stat().st_size for path in files))
            )
    return shelves


def clear_cache(name: str | None = None) -> list[CacheShelf]:
    """Delete one kind, or everything, and say what it was. Nothing beside the cache's own kinds is touched.

    Raises:
        ConfigError: there is no such kind.
        DataError: a file cannot be deleted.
    """
    found = [shelf for shelf in list_cache() if shelf.name in SHELF_NOTES]
    if name is not None and name not in SHELF_NOTES:
        raise ConfigError(
            f"the cache has no kind {name!r}.{nearest(name, SHELF_NOTES)} Kinds: {', '.join(SHELF_NOTES)}."
        )
    chosen = [shelf for shelf in found if name in (None, shelf.name)]
    for shelf in chosen:
        try:
            shutil.rmtree(shelf.path)
        except OSError as error:
            raise DataError(f"{shelf.path} cannot be deleted: {error}. Delete it by hand.") from error
    return chosen


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

    def store() -> Arrays:
        arrays = make()
        write_atomically(path, lambda partial: np.savez(partial, **arrays))
        return arrays

    return _found_or_made(path, lambda: _read(path), store)


def cached_file(path: Path, write: Callable[[Path], object], is_whole: Callable[[Path], bool]) -> Path:
    """The file at ``path``; if missing or damaged, written and put into place by one process at a time.

    Args:
        path: where it lies.
        write: fills a file of a temporary name.
        is_whole: see :func:`is_usable`.

    Raises:
        DataError: the cache folder cannot be written.
    """

    def store() -> Path:
        write_atomically(path, write)
        return path

    return _found_or_made(path, lambda: path if is_usable(path, is_whole) else None, store)


def is_usable(path: Path, is_whole: Callable[[Path], bool]) -> bool:
    """Whether a file of the cache is there and undamaged: ``is_whole`` says so, and an exception of it means no."""
    try:
        return path.is_file() and is_whole(path)
    except Exception:  # every format has errors of its own; what is damaged can be made again
        return False


def _found_or_made(path: Path, find: Callable[[], T | None], store: Callable[[], T]) -> T:
    """What ``find`` finds, or where that is None what ``store`` stores, by one process at a time."""
    from filelock import FileLock

    try:
        # Looked for before the lock as well, so that a filled cache that is read-only can be used.
        if (found := find()) is not None:
            return found
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            found = find()
            return store() if found is None else found
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
