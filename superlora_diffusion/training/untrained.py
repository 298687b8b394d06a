"""The held-out loss before the first step: what training has to be better than."""

from __future__ import annotations

from ..devices import resolve_device
from ..runs.config import RunConfig
from .setup import load_or_build_base
from .tasks import held_out_of


def untrained_loss(config: RunConfig, device: str | None = None) -> float:
    """Validation loss of a run's base as it is, on the run's own held-out problems."""
    base, place = load_or_build_base(config), resolve_device(device)
    held_out = held_out_of(config, base, place)
    return held_out.measure(base.network.to(place), place)["validation_loss"]
