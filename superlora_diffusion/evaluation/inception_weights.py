"""Where torch-fidelity's Inception weights lie: a given path, torch's hub cache, or its release page."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import torch

from superlora_diffusion.errors import EvaluationError


def cached_inception_path() -> Path:
    """Where torch-fidelity itself puts the file: ``$TORCH_HOME/hub/checkpoints``."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(URL_INCEPTION_V3).path).name


def find_inception_weights(path: str | None) -> Path:
    """The given file, else the cached one, else the cached one after fetching it (91 MB).

    Raises:
        EvaluationError: the given file does not exist, or there is none and it cannot be fetched.
    """
    if path is not None:
        if not Path(path).is_file():
            raise EvaluationError(
                f"{path}: there is no such file; expected Inception weights for torch-fidelity. "
                "Give an existing file, or no path, to look in torch's cache."
            )
        return Path(path)
    cached = cached_inception_path()
    if not cached.is_file():
        _fetch(cached)
    return cached


def _fetch(target: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The hash is the end of the file's name; torch writes to a temporary file first.
        torch.hub.download_url_to_file(
            URL_INCEPTION_V3, str(target), hash_prefix=target.stem.rsplit("-", 1)[-1], progress=False
        )
    except (OSError, RuntimeError) as error:  # URLError is an OSError, a wrong hash a RuntimeError
        raise EvaluationError(
            f"the weights of the `inception` extractor were looked for at {target} and are not there, and "
            f"fetching {URL_INCEPTION_V3} failed ({error}). Fetch that file on a machine with a network and "
            "put it there, or give its path (extractor path); for digit data the `digits` extractor needs no "
            "file."
        ) from error
