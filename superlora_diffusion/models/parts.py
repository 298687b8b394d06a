"""The frozen parts of a pipeline beside its denoiser: autoencoder, text encoders. Loaded when first needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from ..errors import BaseModelError

INDEX = "model_index.json"
_LOAD_ERRORS = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError),
    SafetensorError,
)
_SAMPLES, _BLOCK = 64, 4096


class Parts:
    """The parts of one pipeline folder."""

    def __init__(self, folder: Path, variant: str | None = None) -> None:
        self.folder, self.variant = folder, variant
        self._loaded: dict[str, Any] = {}

    @cached_property
    def index(self) -> dict[str, Any]:
        """The pipeline's own list of its parts; empty where it has none."""
        path = self.folder / INDEX
        return read_json(path) if path.is_file() else {}

    @property
    def components(self) -> dict[str, tuple[str, str]]:
        """{folder: (library, class)}, empty slots left out."""
        return components_of(self.index)

    def require(self, name: str) -> None:
        """Raise BaseModelError where a part that is needed has no folder."""
        if not (self.folder / name).is_dir():
            raise BaseModelError(
                f"{self.folder} has no {name}/, which a network like this needs beside it; copy or download the whole "
                "pipeline."
            )

    def config(self, name: str) -> dict[str, Any]:
        """A part's config.json, the part itself unread."""
        self.require(name)
        return read_json(self.folder / name / "config.json")

    def load(self, name: str) -> nn.Module:
        """A part of diffusers, frozen, in fp32 and eval mode.

        Raises:
            BaseModelError: if it is missing or broken.
        """
        if name not in self._loaded:
            import diffusers

            kind = self.config(name).get("_class_name")
            loader = getattr(diffusers, str(kind), None)
            if loader is None:
                raise BaseModelError(f"{self.folder / name} holds a {kind}, which diffusers does not know.")
            self._loaded[name] = self._loading(name, lambda: self._frozen(loader, name))
        return self._loaded[name]

    def _frozen(self, loader: Any, name: str) -> nn.Module:
        return loader.from_pretrained(self.folder / name, variant=self.variant).requires_grad_(False).eval()

    def has(self, name: str) -> bool:
        """Whether the pipeline has such a part."""
        return name in self.components

    def pipeline(self, kind: str, wanted: Sequence[str]) -> Any:
        """A pipeline of diffusers with some of its parts only, frozen, fp32.

        Args:
            kind: its class.
            wanted: parts that are loaded, where the folder has them.

        Raises:
            BaseModelError: if a part is missing or broken.
        """
        if kind not in self._loaded:
            import diffusers

            loader = getattr(diffusers, kind)
            if not self.index:
                raise BaseModelError(f"{self.folder} has no {INDEX}, which names the parts of a pipeline.")
            for name in filter(self.has, wanted):
                self.require(name)  # without its folder an empty tokenizer would be made
            absent = {name: None for name in _parts_of(loader) if name not in wanted or not self.has(name)}
            made = self._loading(
                kind, lambda: loader.from_pretrained(self.folder, variant=self.variant, **absent)
            )
            for part in made.components.values():
                if isinstance(part, nn.Module):
                    part.requires_grad_(False).eval().float()  # transformers takes the files' own type
            self._loaded[kind] = made
        return self._loaded[kind]

    def _loading(self, name: str, load: Any) -> Any:
        try:
            with no_bars():
                return load()
        except _LOAD_ERRORS as error:
            raise BaseModelError(f"{self.folder}: {name} cannot be loaded: {error}") from error

    def release(self) -> None:
        """Let go of what was loaded; it is read again when it is needed again."""
        self._loaded.clear()

    def digest(self, *names: str) -> str:
        """What tells parts from others, without loading them: names, sizes and samples of their files.

        First 16 hex digits of sha256.
        """
        digest = hashlib.sha256()
        for name in names:
            for path in sorted((self.folder / name).rglob("*")):
                if path.is_file():
                    digest.update(f"{path.relative_to(self.folder)} {path.stat().st_size}\n".encode())
                    _add_samples(digest, path)
        return digest.hexdigest()[:16]


def components_of(index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """{folder: (library, class)} of a pipeline's model_index.json, empty slots left out."""
    return {
        key: tuple(value)
        for key, value in index.items()
        if isinstance(value, list) and len(value) == 2 and None not in value
    }


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of names and values; anything else is a BaseModelError that names the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path} is broken: {error}") from error
    if not isinstance(values, dict):
        raise BaseModelError(f"{path} is broken: it holds a {type(values).__name__}, no names and values.")
    return values


def _parts_of(pipeline: type) -> set[str]:
    """Names of the parts that a pipeline's constructor takes."""
    expected, _ = pipeline._get_signature_keys(pipeline)
    return set(expected)


@contextmanager
def no_bars() -> Iterator[None]:
    """Without the libraries' progress bars over a dozen small files."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    shown = of_diffusers.is_progress_bar_enabled()
    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            of_diffusers.enable_progress_bar()
            of_transformers.enable_progress_bar()


def _add_samples(digest: Any, path: Path) -> None:
    """64 blocks spread over a file: a base of gigabytes is told from another in a moment."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for place in range(_SAMPLES):
            file.seek(size * place // _SAMPLES)
            digest.update(file.read(_BLOCK))
