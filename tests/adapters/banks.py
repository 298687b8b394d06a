"""Adapter folders for one network, and a bank that has read them: what the tests of banks share."""

from __future__ import annotations

import copy
from pathlib import Path

from superlora_diffusion import AdapterBank, SuperLoRAConfig, attach

from .networks import NETWORKS, fields_for, fill, output, with_deltas


def store(model, folder: Path, config: SuperLoRAConfig, seed: int = 0, scale: float = 1.0, **options) -> dict:
    """Write an adapter folder for a network, which is left as it was; the adapter's deltas."""
    adapter = attach(model, config)
    fill(adapter, seed=seed)
    adapter.set_scale(scale)
    deltas = {name: delta.detach() for name, delta in adapter.deltas().items()}
    adapter.save_pretrained(folder, **options)
    adapter.unload()
    return deltas


class Banked:
    """A network, its untouched copy, and a bank of adapters whose deltas are known."""

    def __init__(self, folder: Path, network: str = "mixed", dtype=None) -> None:
        self.folder, self.network = folder, network
        self.model = NETWORKS[network]().to(dtype)
        self.base = copy.deepcopy(self.model)
        self.bank = AdapterBank(self.model)
        self.deltas: dict[str, dict] = {}

    def add(self, name: str, setting: str, seed: int = 0, scale: float = 1.0, fields=None, **options) -> Path:
        """Store an adapter, its numbers drawn from ``seed``, and add it to the bank; its folder."""
        config = SuperLoRAConfig(**{**fields_for(self.network, setting), **(fields or {})})
        place = self.folder / name
        self.deltas[name] = store(copy.deepcopy(self.base), place, config, seed, scale, **options)
        self.bank.add(name, place)
        return place

    def wanted(self, weights: dict[str, float]):
        """The base with weighted deltas added by hand."""
        return with_deltas(
            self.base,
            *({key: weight * d for key, d in self.deltas[name].items()} for name, weight in weights.items()),
        )

    def outputs(self, weights: dict[str, float], inputs: dict):
        """What the bank's network gives, and what it must be close to."""
        return output(self.model, inputs), output(self.wanted(weights), inputs)
