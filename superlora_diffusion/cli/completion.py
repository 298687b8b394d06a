"""What the shell may offer behind an option: names alone. Where none fits, the shell offers files. Loads no torch.
Typer keeps those that begin with what was typed.

An exception here would be printed into someone's prompt, so that nothing is read but names.
"""

from __future__ import annotations


def config_names() -> list[str]:
    """Packaged run configs."""
    from ..runs.loading import packaged_configs

    return list(packaged_configs())


def sweep_names() -> list[str]:
    """Packaged sweeps."""
    from ..runs.loading import packaged_sweeps

    return list(packaged_sweeps())


def any_config_names() -> list[str]:
    """Both."""
    return config_names() + sweep_names()


def data_names() -> list[str]:
    """Data sets by name. Those by path are left to the typing: shells take the colon for the end of a word."""
    from ..data.loading import LOADERS

    return list(LOADERS)


def samplers() -> list[str]:
    """Samplers."""
    from typing import get_args

    from ..sampling.config import SamplerName

    return list(get_args(SamplerName))


def extractors() -> list[str]:
    """Extractors by name; the shell offers folders where none fits."""
    from ..runs.config import EXTRACTORS

    return list(EXTRACTORS)


def cache_kinds() -> list[str]:
    """Kinds of what the cache keeps."""
    from ..data.cache import SHELF_NOTES

    return list(SHELF_NOTES)
