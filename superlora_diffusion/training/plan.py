"""What a run would train, without training it."""

from __future__ import annotations

from typing import Any

from ..adapters import count_parameters, find_targets
from ..runs.config import RunConfig
from .setup import load_or_build_base


def describe_plan(config: RunConfig) -> dict[str, Any]:
    """Targets, their number of weights, trained numbers and learning rate of a run.

    Raises:
        BaseModelError, AdapterError, ConfigError: as training would.
    """
    base = load_or_build_base(config)
    if config.method == "full":
        targets, count = [], sum(parameter.numel() for parameter in base.unet.parameters())
    else:
        targets = find_targets(base.unet, config.adapter)
        count = count_parameters(config.adapter, targets)
    return {
        "targets": [target._asdict() for target in targets],
        "target_weights": sum(target.size for target in targets),
        "parameters": count,
        "learning_rate": config.learning_rate,
    }
