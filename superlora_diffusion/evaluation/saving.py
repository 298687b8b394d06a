"""Images written to an npz while they are drawn: the file is there when all are, and memory holds a batch."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from superlora_diffusion.files import atomic_file


def save_passing(
    path: Path,
    batches: Iterable[np.ndarray],
    count: int,
    labels: np.ndarray | None,
    class_names: Sequence[str],
) -> Iterator[np.ndarray]:
    """Pass the batches (B, H, W, C) on, writing each; after the last, ``path`` is an npz that `npz:PATH` reads.

    Args:
        count: images of all batches together.
        labels: (count,), or None, which is written as class 0 of one class.

    Raises:
        SuperLoRAError: naming the file, where the system refuses.
    """
    names = np.array(tuple(class_names) or ("image",))
    labels = np.zeros(count, dtype=np.int64) if labels is None else np.asarray(labels, dtype=np.int64)
    with (
        atomic_file(path) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
    ):
        for key, array in (("labels", labels), ("class_names", names)):
            with packed.open(f"{key}.npy", "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
        with packed.open("images.npy", "w", force_zip64=True) as entry:
            for number, batch in enumerate(batches):
                if number == 0:
                    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *batch.shape[1:])}
                    np.lib.format.write_array_header_1_0(entry, header)
                entry.write(np.ascontiguousarray(batch).data)
                yield batch
