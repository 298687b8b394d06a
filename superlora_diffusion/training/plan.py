"""What a run would train, without training it."""

from __future__ import annotations

import copy
from typing import Any

from ..adapters import count_parameters, find_targets
from ..adapters.targets import describe
from ..models.base import Base
from ..models.classifier import Classifier
from ..peers import Peer, attach_peer
from ..runs.config import RunConfig
from .setup import WHAT, adapter_for, head_beside, load_or_build_base


def count_trained(config: RunConfig, base: Base | Classifier) -> int:
    """How many numbers a run would train, without those of a head beside them; the base is left untouched.

    Ours by its closed form; a peer is attached to a copy, and what its optimiser would hold is counted.

    Raises:
        AdapterError, ConfigError: as training would.
    """
    if config.is_peer:
        return _attach_to_copy(config, base).num_parameters
    if config.method == "full":
        return sum(parameter.numel() for parameter in base.network.parameters())
    adapter = adapter_for(config, base)
    return count_parameters(adapter, find_targets(base.adapted, adapter))


def count_head(config: RunConfig, base: Base | Classifier) -> int:
    """How many numbers of a classifier's head a run would train beside them."""
    return sum(parameter.numel() for parameter in head_beside(config, base).values())


def _attach_to_copy(config: RunConfig, base: Base | Classifier) -> Peer:
    return attach_peer(copy.deepcopy(base.adapted), config.method, config.peer_settings, config.seed)


def describe_plan(config: RunConfig) -> dict[str, Any]:
    """Targets, their number of weights, what trains, how many numbers, and the learning rate of a run.

    Raises:
        BaseModelError, AdapterError, ConfigError: as training would.
    """
    base = load_or_build_base(config)
    peer = _attach_to_copy(config, base) if config.is_peer else None
    if peer is not None:
        targets = [describe(name, base.adapted.get_submodule(name)) for name in peer.attached.layers]
    else:
        adapter = adapter_for(config, base)
        targets = find_targets(base.adapted, adapter) if config.method == "superlora" else []
    return {
        "method": config.method,
        "trains": peer.what if peer else WHAT[config.method],
        "targets": [target._asdict() for target in targets],
        "target_weights": sum(target.size for target in targets),
        "left_out": peer.left_out if peer else {},
        "notes": peer.notes if peer else [],
        "parameters": peer.num_parameters if peer else count_trained(config, base),
        "head_parameters": count_head(config, base),
        "learning_rate": config.learning_rate,
    }
