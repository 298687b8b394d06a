"""The held-out loss before the first step: what training has to be better than."""

from __future__ import annotations

from ..devices import resolve_device
from ..runs.config import RunConfig
from .data import load_split
from .examples import make_examples
from .setup import load_or_build_base
from .validation import make_validation


def untrained_loss(config: RunConfig, device: str | None = None) -> float:
    """Validation loss of a run's base as it is, on the run's own held-out problems."""
    base, place = load_or_build_base(config), resolve_device(device)
    examples = make_examples(config, base, load_split(config, base, "test"), place, still=True)
    validation = make_validation(base, examples, config.validation.images, config.validation.seed)
    return validation.loss(base.network.to(place), place)
