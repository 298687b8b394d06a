"""A user's own images in one file: `npz:PATH`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from superlora_diffusion.data.holdout import held_out
from superlora_diffusion.data.records import SPLITS, ImageSet, Split, make_image_set
from superlora_diffusion.errors import DataError


def load_npz(path: str, split: Split) -> ImageSet:
    """One split of a file with ``images`` (N, H, W) or (N, H, W, C) uint8 and ``labels`` (N,) integers.

    ``split`` (N,), 0 for train and 1 for test, and ``class_names`` may be there; without them a fifth of each
    class is held out, and classes are called by their numbers.

    Raises:
        DataError: the file is missing or broken, or an array is not as said.
    """
    file = Path(path).expanduser()
    arrays = _read(file)
    names = _class_names(arrays, file)
    whole = make_image_set(
        arrays["images"], arrays["labels"], names, name=f"npz:{path}", split="all", source=str(file)
    )
    chosen = _in_split(arrays, whole.labels, split, file)
    return make_image_set(
        whole.images[chosen], whole.labels[chosen], names, name=whole.name, split=split, source=str(file)
    )


def _read(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise DataError(
            f"{file}: no such file; expected an npz with the arrays images and labels. Check the path."
        )
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own for a damaged file
        raise DataError(
            f"{file}: cannot be read as an npz of plain arrays ({type(error).__name__}: {error}). "
            "Write it with numpy.savez(path, images=..., labels=...)."
        ) from error
    if missing := [key for key in ("images", "labels") if key not in arrays]:
        raise DataError(
            f"{file}: holds {', '.join(arrays) or 'nothing'}, {' and '.join(missing)} missing; expected "
            "images and labels, and optionally split and class_names."
        )
    return arrays


def _class_names(arrays: dict[str, np.ndarray], file: Path) -> tuple[str, ...]:
    if "class_names" not in arrays:
        labels = arrays["labels"]
        usable = labels.dtype.kind in "iu" and labels.size
        if usable and labels.max() >= labels.size:
            raise DataError(
                f"{file}: label {labels.max()} is out of range for {labels.size} images; expected classes 0, 1, 2, "
                "... with at least one image each. Number them anew, or give class_names."
            )
        return tuple(str(index) for index in range(int(labels.max()) + 1 if usable else 0))
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(
            f"{file}: class_names is {names.dtype} of shape {names.shape}, expected a list of strings."
        )
    if len(set(names.tolist())) != len(names):
        raise DataError(
            f"{file}: class_names holds a name twice ({', '.join(names)}); expected distinct names."
        )
    return tuple(names.tolist())


def _in_split(
    arrays: dict[str, np.ndarray], labels: np.ndarray, split: Split, file: Path
) -> np.ndarray:  # (N,) bool
    if "split" not in arrays:
        return held_out(labels) == (split == "test")
    given = arrays["split"]
    if given.shape != labels.shape or given.dtype.kind not in "iub" or not np.isin(given, (0, 1)).all():
        raise DataError(
            f"{file}: split is {given.dtype} of shape {given.shape} with the values "
            f"{np.unique(given)[:5].tolist()}, expected {labels.shape} of 0 (train) and 1 (test)."
        )
    return given.astype(np.int64) == SPLITS.index(split)
