"""``sample``: from a source and a request to files."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import ConfigError, SamplingError, nearest
from ..files import write_atomically, write_json
from ..models.base import Base
from ..peers import Peer
from ..sampling.config import SamplingSettings
from ..sampling.grid import save_grid
from ..sampling.producer import asked_for, generate, run_settings_for
from ..sampling.request import SampleRequest
from .mix import open_mixed
from .source import Source

_PER_CLASS, _PER_PROMPT, _UNASKED = 8, 4, 8


@dataclass
class Drawing:
    """Everything decided, nothing drawn yet."""

    source: Source
    request: SampleRequest
    settings: SamplingSettings
    names: tuple[str, ...]
    """Classes of the base, or prompts; empty for an unconditional base."""
    indices: np.ndarray
    """(N,) class or prompt of each image; all zero for an unconditional base."""
    columns: int
    folder: Path

    @property
    def asked(self) -> list[str] | np.ndarray | None:
        """What the images are asked to be."""
        return asked_for(self.source.base, self.names, self.indices)


def prepare_drawing(
    path: str | None,
    base: str | None,
    request: SampleRequest,
    device: torch.device,
    out: Path | None = None,
    adapters: Sequence[str] = (),
) -> Drawing:
    """Open the source and check the request against it, before the expensive part.

    Args:
        path, base, adapters: what to draw from; see :func:`open_mixed`.
        request: which images.
        device: where.
        out: where to write; samples/sample of a run, or a folder named after the source.

    Raises:
        ConfigError: for unknown classes or settings.
        SamplingError: for a scale or merge without an adapter.
    """
    SamplingSettings(**request.sampling)  # a wrong value is told before anything is loaded
    source = open_mixed(path, base, adapters)
    if source.adapter is None and (request.scale is not None or request.merge):
        raise SamplingError(f"{path} has no adapter, so there is nothing to scale or merge.")
    if isinstance(source.adapter, Peer) and (request.scale is not None or request.merge):
        raise SamplingError(
            f"{path} was trained by method {source.adapter.method!r}, which can neither be scaled nor merged; "
            "leave --scale and --merge out."
        )
    settings = sampling_of(request, source)
    names, chosen = choose(request, source)
    columns = len(chosen) or _UNASKED
    count = request.count or columns * (_PER_PROMPT if source.base.takes_text else _PER_CLASS)
    indices = np.resize(np.array(chosen or [0]), count)
    if out is None:
        of_run = not adapters and (Path(path).expanduser() / "config.yaml").is_file()
        out = Path(path).expanduser() / "samples" / "sample" if of_run else Path(f"samples-{source.name}")
    source.base.network.to(device)
    return Drawing(source, request, settings, names, indices, columns, out)


def sampling_of(request: SampleRequest, source: Source) -> SamplingSettings:
    """The request's values over the run's over the base family's, every one of them said.

    Raises:
        ConfigError: for unknown settings or wrong values.
        SamplingError: for a size that the network cannot draw.
    """
    given = source.config.sampling if source.config else SamplingSettings()
    settings = SamplingSettings(**{**given.model_dump(), **request.sampling})
    resolution = source.config.data.resolution if source.config else None
    return run_settings_for(source.base, settings, resolution, request.sampling)


def choose(request: SampleRequest, source: Source) -> tuple[tuple[str, ...], list[int]]:
    """Classes or prompts, and which of them are drawn; both empty for an unconditional base.

    Raises:
        ConfigError: for a class the base does not know, prompts for a base that takes none, or no prompt at all.
    """
    base = source.base
    if not base.takes_text:
        if request.prompts or request.sampling.get("negative_prompt"):
            raise ConfigError(
                f"base {base.name!r} takes no prompts; choose --classes, or leave --prompt out."
            )
        return base.class_names, choose_classes(request.classes, base)
    if request.classes is not None:
        raise ConfigError(f"base {base.name!r} knows no classes; ask for images by --prompt.")
    prompts = request.prompts or (source.config.preview.prompts if source.config else ())
    if not prompts:
        raise ConfigError(
            f"base {base.name!r} takes text: say what to draw by --prompt 'a ...', once or more."
        )
    return tuple(prompts), list(range(len(prompts)))


def choose_classes(text: str | None, base: Base) -> list[int]:
    """Class indices from names or indices with commas between; all for None.

    Raises:
        ConfigError: for a class the base does not know.
    """
    if text is None:
        return list(range(len(base.class_names)))
    if base.classes is None:
        raise ConfigError(f"base {base.name!r} is unconditional: it has no classes to ask for.")
    chosen = []
    for word in (word.strip() for word in text.split(",")):
        if word in base.class_names:
            chosen.append(base.class_names.index(word))
        elif word.isdecimal() and int(word) < base.classes:
            chosen.append(int(word))
        else:
            raise ConfigError(
                f"class {word!r} is unknown.{nearest(word, base.class_names)} Base {base.name!r} knows: "
                f"{', '.join(base.class_names)} (or 0 to {base.classes - 1})."
            )
    return chosen


def draw(drawing: Drawing, on_batch: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Draw the images and write them.

    Returns:
        what ``samples.json`` holds: the settings and the files' names.
    """
    source, request = drawing.source, drawing.request
    if source.adapter is not None:
        if request.scale is not None:
            source.adapter.set_scale(request.scale)
        if request.merge:
            source.adapter.merge()
    arguments = (source.base, drawing.asked, len(drawing.indices), drawing.settings, request.seed)
    if source.adapter is None or request.merge:
        images = generate(*arguments, on_batch=on_batch)
    else:
        with source.adapter.cached():
            images = generate(*arguments, on_batch=on_batch)
    earlier = _earlier_files(drawing.folder)
    files = _WRITERS[request.format](drawing, images)
    for path in earlier - set(files):
        path.unlink(missing_ok=True)
    written = _describe(drawing, files)
    write_json(drawing.folder / "samples.json", written)
    return written


def _write_grid(drawing: Drawing, images: np.ndarray) -> list[Path]:
    path = drawing.folder / "grid.png"
    names = drawing.names
    labels = [names[index] for index in drawing.indices[: drawing.columns]] if names else None
    columns = min(drawing.columns, len(images))
    save_grid(path, images, columns, labels[:columns] if labels else None)
    return [path]


def _write_pngs(drawing: Drawing, images: np.ndarray) -> list[Path]:
    names, digits = drawing.names, max(4, int(math.log10(len(images))) + 1)
    paths = []
    for index, (image, label) in enumerate(zip(images, drawing.indices, strict=True)):
        name = "".join(sign if sign.isalnum() else "-" for sign in names[label][:40]) if names else "image"
        path = drawing.folder / f"{index:0{digits}d}-{name}.png"
        picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
        write_atomically(path, lambda partial, picture=picture: picture.save(partial, format="PNG"))
        paths.append(path)
    return paths


def _write_npz(drawing: Drawing, images: np.ndarray) -> list[Path]:
    path, packed = drawing.folder / "samples.npz", io.BytesIO()
    names = np.array(drawing.names or ("image",))
    np.savez_compressed(packed, images=images, labels=drawing.indices.astype(np.int64), class_names=names)
    write_atomically(path, lambda partial: partial.write_bytes(packed.getvalue()))
    return [path]


def _earlier_files(folder: Path) -> set[Path]:
    """What an earlier call wrote into the folder and would stay beside the new images."""
    try:
        listed = json.loads((folder / "samples.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {folder / Path(name).name for name in listed}


_WRITERS = {"grid": _write_grid, "png": _write_pngs, "npz": _write_npz}


def _describe(drawing: Drawing, files: list[Path]) -> dict[str, Any]:
    adapter = drawing.source.adapter
    return {
        "source": drawing.source.name,
        "base": drawing.source.base.name,
        "parameters": 0 if adapter is None else adapter.num_parameters,
        "scale": getattr(adapter, "scale", None),
        **({"adapters": [asdict(one) for one in drawing.source.mixed]} if drawing.source.mixed else {}),
        "merged": drawing.request.merge,
        "seed": drawing.request.seed,
        "count": len(drawing.indices),
        "classes": drawing.indices.tolist(),
        **({"prompts": list(drawing.names)} if drawing.source.base.takes_text else {}),
        "sampling": drawing.settings.model_dump(mode="json"),
        "files": [str(path) for path in files],
    }
