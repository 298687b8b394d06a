"""A base that stays loaded, and what stands on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..adapters.bank import AdapterBank
from ..errors import SamplingError
from ..models.base import Base
from ..models.storage import load_base
from ..peers import Peer, load_peer
from .choice import Choice, adapter_key, base_key

_KEPT = 16  # adapters in the bank beside those in use; a dense one is as large as the layers it adapts


class Stage:
    """One loaded base. Adapters of ours come and go on it; one of another library's has a stage of its own."""

    def __init__(self, choice: Choice, device: torch.device) -> None:
        """Load the base, and attach an adapter of another library's, which cannot leave it again.

        Raises:
            BaseModelError, AdapterError: if a part cannot be loaded.
        """
        self.key = stage_key(choice)
        self.base: Base = load_base(choice.base)
        self.peer: Peer | None = None
        self.bank: AdapterBank | None = None
        self._notes: dict[str, tuple[str, ...]] = {}
        if choice.method is None:
            self.bank = AdapterBank(self.base.network)
        else:
            with _heard() as said:
                self.peer = load_peer(self.base.network, choice.adapter.folder)
            self._notes[adapter_key(choice.adapter)] = tuple(said)
        self.base.network.to(device)

    def prepare(self, choices: Sequence[Choice]) -> int:
        """Read the adapters that the bank has not.

        Returns:
            how many numbers they trained together.

        Raises:
            AdapterError, ConfigError: for an adapter that is broken or does not fit the base.
        """
        if self.peer is not None:
            return self.peer.num_parameters
        names = [adapter_key(choice.adapter) for choice in choices if choice.adapter is not None]
        self.bank.use(None)
        for name in [name for name in self.bank.names if name not in names][:-_KEPT]:
            self.bank.remove(name)
        for name, choice in zip(names, [c for c in choices if c.adapter is not None], strict=True):
            if name not in self.bank:
                with _heard() as said:
                    self.bank.add(name, choice.adapter.folder)
                self._notes[name] = tuple(said)
        return sum(self.bank.count(name) for name in dict.fromkeys(names))

    def notes(self, choices: Sequence[Choice]) -> tuple[str, ...]:
        """What was warned of when the adapters were read, such as another base than they were trained on."""
        names = [adapter_key(choice.adapter) for choice in choices if choice.adapter is not None]
        return tuple(dict.fromkeys(note for name in names for note in self._notes.get(name, ())))

    @contextmanager
    def bare(self) -> Iterator[None]:
        """The base, bit for bit, for the block."""
        with self.bank.disabled() if self.bank is not None else self.peer.disabled():
            yield

    @contextmanager
    def adapted(self, choices: Sequence[Choice], weights: Sequence[float], scale: float) -> Iterator[None]:
        """The base with its adapters, each update made once, for the block.

        Args:
            choices: prepared before; what is a base adds nothing.
            weights: of the choices; a choice that stands there twice has the sum.
            scale: factor on all weights.

        Raises:
            SamplingError: for a scale of what cannot be scaled.
        """
        if self.peer is not None:
            if scale * weights[0] != 1:
                raise SamplingError(
                    f"{choices[0].told} was trained by method {self.peer.method!r}, which cannot be scaled; set its "
                    "scale to 1."
                )
            with self.peer.cached():
                yield
            return
        with self.bank.using(_mix(choices, weights, scale)), self.bank.cached():
            yield


def _mix(choices: Sequence[Choice], weights: Sequence[float], scale: float) -> dict[str, float]:
    mix: dict[str, float] = {}
    for choice, weight in zip(choices, weights, strict=True):
        if choice.adapter is not None:
            name = adapter_key(choice.adapter)
            mix[name] = mix.get(name, 0.0) + scale * weight
    return mix


def stage_key(choice: Choice) -> str:
    """What a stage is known by: its base, and an adapter that cannot leave it."""
    own = "" if choice.method is None else adapter_key(choice.adapter)
    return f"{base_key(choice.base)} {own}"


@contextmanager
def counted(network: nn.Module, on_call: Callable[[], None] | None) -> Iterator[None]:
    """Tell of each call of the network in the block."""
    handle = None if on_call is None else network.register_forward_pre_hook(lambda *_: on_call())
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Our own warnings in the block, as texts, once it is over."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"superlora_diffusion\.")
        yield said
    said += dict.fromkeys(str(warning.message) for warning in caught)
