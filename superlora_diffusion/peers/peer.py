"""``Peer``: another method attached to a network, with the few things a run asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..adapters.fingerprint import fingerprint
from .fixed import fixed_tensors

if TYPE_CHECKING:
    from ..adapters.storage import AdapterCard


@dataclass
class Attached:
    """What a method did to a network."""

    parameters: dict[str, nn.Parameter]
    """What trains, by name in the network."""
    what: str
    """What trains, in words."""
    switch: Callable[[bool], None] = lambda on: None
    """Turns the method's own parts on and off."""
    layers: Sequence[str] = ()
    """Names of the target layers it holds; empty for a method without targets."""
    left_out: dict[str, str] = field(default_factory=dict)
    """{name of a target layer it does not hold: why}."""
    notes: Sequence[str] = ()
    """What the library said while it attached."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the libraries whose code the method is."""


class Snapshot:
    """A network's own parameters before anything is attached to it."""

    def __init__(self, network: nn.Module, keep: Callable[[str], bool]) -> None:
        """Args: the network; which parameters (by name) are copied, since they may change."""
        self.parameters = dict(network.named_parameters())
        self.flags = {name: parameter.requires_grad for name, parameter in self.parameters.items()}
        self.ids = {id(tensor) for tensor in (*self.parameters.values(), *network.buffers())}
        self.copies = {name: value.detach().clone() for name, value in self.parameters.items() if keep(name)}
        self.fingerprint = fingerprint(self.parameters)


class Peer:
    """A method other than ours on a network. Made by :func:`attach_peer` or :func:`load_peer`."""

    def __init__(
        self,
        network: nn.Module,
        method: str,
        settings: dict[str, Any],
        seed: int,
        before: Snapshot,
        attached: Attached,
    ) -> None:
        self.network, self.method, self.settings, self.seed = network, method, settings, seed
        self.before, self.attached = before, attached
        self.parameters = attached.parameters
        """Exactly what trains, {name in the network: parameter}; also what is counted and saved."""
        trained = {id(parameter) for parameter in self.parameters.values()}
        self._originals = {
            name: before.copies.get(name, parameter.detach().clone())
            for name, parameter in before.parameters.items()
            if id(parameter) in trained or self._was_altered(name)
        }
        self._off = 0

    def _was_altered(self, name: str) -> bool:
        copy = self.before.copies.get(name)
        return copy is not None and not torch.equal(copy, self.before.parameters[name])

    @property
    def num_parameters(self) -> int:
        """How many numbers train."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def what(self) -> str:
        """What trains, in words."""
        return self.attached.what

    @property
    def left_out(self) -> dict[str, str]:
        """{name of a target layer that the method does not hold: why}."""
        return dict(self.attached.left_out)

    @property
    def notes(self) -> list[str]:
        """What a user should know of how it was attached, a line each."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            by_reason.setdefault(why, []).append(name)
        lines = [f"{self.what}; left out ({why}): {', '.join(names)}" for why, names in by_reason.items()]
        return [*lines, *self.attached.notes]

    def fixed(self) -> dict[str, Tensor]:
        """What attaching made or changed and does not train: frozen random state, by name.

        Weights of the base that the method moved are among them, their names behind ``base/``.
        """
        trained = {id(parameter) for parameter in self.parameters.values()}
        moved = {
            f"base/{name}": self.before.parameters[name].data
            for name in self._originals
            if id(self.before.parameters[name]) not in trained
        }
        return {**fixed_tensors(self.network, self.before.ids | trained), **moved}

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The untouched base, for the block."""
        if self._off:
            yield
            return
        # With the base's own flags: torch picks other kernels for weights that require a gradient.
        flags = [(parameter, parameter.requires_grad) for parameter in self.network.parameters()]
        trained = {name: self.before.parameters[name].detach().clone() for name in self._originals}
        self._off += 1
        self.attached.switch(False)
        self._write(self._originals)
        for name, parameter in self.before.parameters.items():
            parameter.requires_grad_(self.before.flags[name])
        try:
            yield
        finally:
            self._write(trained)
            self.attached.switch(True)
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
            self._off -= 1

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.before.parameters[name].copy_(value)

    @contextmanager
    def cached(self) -> Iterator[None]:
        """Nothing: a peer keeps no updates that could be generated once."""
        yield

    def save(self, folder: Path | str, card: AdapterCard | None = None) -> None:
        """Write it to a folder; see :func:`superlora_diffusion.peers.storage.save_peer`."""
        from .storage import save_peer

        save_peer(self, folder, card)
