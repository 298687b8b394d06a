"""The updates of any adapter as weights: ours from its folder alone where it tells them, else with its base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..adapters.arrays import follow_from_base
from ..adapters.deltas import iterate_deltas
from ..adapters.measures import as_matrix
from ..adapters.places import parameter_of, target_named
from ..adapters.reading import read_adapter_config
from ..adapters.storage import read_stored
from ..errors import SuperLoRAError
from ..peers.storage import is_peer
from .inspection import find_adapter
from .source import Source, open_source

if TYPE_CHECKING:
    from ..peers import Peer


@dataclass(frozen=True)
class Updates:
    """What an adapter adds to the weights of its targets."""

    names: Sequence[str]
    """In module order."""
    deltas: Iterable[tuple[str, Tensor]]
    """(name, dW), each once, in any order; to be gone through once."""
    patterns: Sequence[str] = ()
    """By which the targets were chosen."""
    weight_norms: Mapping[str, float] = field(default_factory=dict)
    """||W||_F by name; empty without the base."""
    base: str | None = None
    """The base that was read."""
    problem: str | None = None
    """Why none was."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """{what trains and is no update of a weight: why}; of a peer alone."""


def open_updates(path: str | Path, base: str | None = None, weights: bool = True) -> Updates:
    """The updates of an adapter.

    Args:
        path: an adapter folder, or a finished run folder.
        base: the base to use instead of the one that is named; only then is its absence an error.
        weights: whether the weights of the base are wanted, too. A peer needs the base anyway; ours only for these,
            or where its updates lie along the base's own directions.

    Raises:
        AdapterError: for a folder without an adapter, or one that is broken or incomplete.
        BaseModelError: for a ``base`` that cannot be loaded.
    """
    folder = find_adapter(path)
    if is_peer(read_adapter_config(folder)):
        source, problem = _open(path, base)
        return Updates((), (), problem=problem) if source is None else _of_peer(source)
    stored = read_stored(folder)
    names, patterns = [target.name for target in stored.targets], stored.config.targets
    follows = follow_from_base(stored.config.projection) and not stored.has_arrays
    source, problem = _open(path, base) if weights or follows else (None, None)
    if source is None:
        found = ((), ()) if follows else (names, iterate_deltas(folder))
        return Updates(*found, patterns, problem=problem)
    deltas = _attached_deltas(source) if follows else iterate_deltas(folder)
    network = source.base.network
    norms = {name: float(as_matrix(parameter_of(network, name)).norm()) for name in names}
    return Updates(names, deltas, patterns, norms, source.base.name)


def _attached_deltas(source: Source) -> Iterable[tuple[str, Tensor]]:
    with torch.no_grad():
        return source.adapter.deltas().items()


def _open(path: str | Path, base: str | None) -> tuple[Source | None, str | None]:
    """What the adapter is attached to; or None, and why."""
    try:
        return open_source(str(path), base), None
    except SuperLoRAError as error:
        if base is not None:
            raise
        return None, str(error)


def _of_peer(source: Source) -> Updates:
    from ..peers.deltas import peer_deltas

    peer: Peer = source.adapter
    deltas, weights, left_out = peer_deltas(peer)
    order = {name: place for place, name in enumerate(peer.before.parameters)}
    last = len(order)
    names = sorted(deltas, key=lambda name: order.get(name, order.get(f"{name}.weight", last)))
    # Called as targets of ours are, so that diff finds the two updates of one parameter.
    ours = {name: target_named(name, deltas[name].dim()) for name in names}
    norms = {ours[name]: float(as_matrix(weight).norm()) for name, weight in weights.items()}
    patterns = tuple(peer.settings.get("targets", ()))
    found = [(ours[name], deltas[name]) for name in names]
    return Updates([*ours.values()], found, patterns, norms, source.base.name, None, left_out)
