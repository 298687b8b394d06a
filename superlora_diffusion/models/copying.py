"""A pipeline's folder without the networks that are written anew."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

CARD, BASE_CARD = "README.md", "BASE_README.md"
# At the top of a folder lie whole models in single files, too; a pipeline is not made of them.
_SMALL_FILES = {".json", ".md", ".txt", ".py", ""}


def copy_rest(folder: Path, components: Iterable[str], replaced: Collection[str], target: Path) -> None:
    """Copy components and the small files beside them. Links (as in the hub's cache) become files.

    Args:
        folder: the pipeline's.
        components: names of its subfolders.
        replaced: those of them that are not copied.
        target: an existing folder. The base's own card is called BASE_README.md there.
    """
    for name in components:
        if name not in replaced and (folder / name).is_dir():
            shutil.copytree(folder / name, target / name)
    for path in folder.iterdir():
        if path.is_file() and path.suffix in _SMALL_FILES and not path.name.startswith("."):
            shutil.copyfile(path, target / (BASE_CARD if path.name == CARD else path.name))
