"""What a run would train, without training it."""

from __future__ import annotations

import copy
from typing import Any

from ..adapters import count_parameters, find_targets
from ..adapters.targets import describe
from ..models.base import Base
from ..peers import Peer, attach_peer
from ..runs.config import RunConfig
from .setup import WHAT, adapter_settings, load_or_build_base


def count_trained(config: RunConfig, base: Base) -> int:
    """How many numbers a run would train; the base is left untouched.

    Ours by its closed form; a peer is attached to a copy, and what its optimiser would hold is counted.

    Raises:
        AdapterError, ConfigError: as training would.
    """
    if config.is_peer:
        return _attach_to_copy(config, base).num_parameters
    if config.method == "full":
        return sum(parameter.numel() for parameter in base.network.parameters())
    adapter = adapter_settings(config, base.family)
    return count_parameters(adapter, find_targets(base.network, adapter))


def _attach_to_copy(config: RunConfig, base: Base) -> Peer:
    return attach_peer(copy.deepcopy(base.network), config.method, config.peer_settings, config.seed)


def describe_plan(config: RunConfig) -> dict[str, Any]:
    """Targets, their number of weights, what trains, how many numbers, and the learning rate of a run.

    Raises:
        BaseModelError, AdapterError, ConfigError: as training would.
    """
    base = load_or_build_base(config)
    peer = _attach_to_copy(config, base) if config.is_peer else None
    if peer is not None:
        targets = [describe(name, base.network.get_submodule(name)) for name in peer.attached.layers]
    else:
        adapter = adapter_settings(config, base.family)
        targets = find_targets(base.network, adapter) if config.method == "superlora" else []
    return {
        "method": config.method,
        "trains": peer.what if peer else WHAT[config.method],
        "targets": [target._asdict() for target in targets],
        "target_weights": sum(target.size for target in targets),
        "left_out": peer.left_out if peer else {},
        "notes": peer.notes if peer else [],
        "parameters": peer.num_parameters if peer else count_trained(config, base),
        "learning_rate": config.learning_rate,
    }
