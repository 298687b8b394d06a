"""The device a user asked for, checked before anything is loaded onto it."""

from __future__ import annotations

import torch

from .errors import ConfigError


def resolve_device(name: str | None = None) -> torch.device:
    """ "cpu", "cuda", "cuda:1", "mps", or None / "auto" for the best there is.

    Raises:
        ConfigError: for a device that torch does not know or this machine does not have.
    """
    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"device {name!r} is unknown; cpu, cuda, cuda:N, mps or auto is accepted."
        ) from None
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, False):
        have = ", ".join(kind for kind, there in present.items() if there)
        raise ConfigError(f"device {name!r} is not there; this machine has: {have}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not there; this machine has {torch.cuda.device_count()} CUDA devices."
        )
    return device
