"""The held-out loss before the first step: what training has to be better than."""

from __future__ import annotations

from ..devices import resolve_device
from ..runs.config import RunConfig
from .setup import load_data, load_or_build_base, make_validation


def untrained_loss(config: RunConfig, device: str | None = None) -> float:
    """Validation loss of a run's base as it is, on the run's own held-out problems."""
    base, place = load_or_build_base(config), resolve_device(device)
    validation = make_validation(config, load_data(config, base), base)
    return validation.loss(base.network.to(place), place)
