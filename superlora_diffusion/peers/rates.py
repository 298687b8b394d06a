"""Learning rates where the user gives none. Imports no torch."""

from __future__ import annotations

DEFAULT_RATE = 2e-2
"""Near what was measured for LoRA; a sweep's race finds the others."""

METHOD_RATES = {"bitfit": 1e-2, "norms": 1e-2, "difffit": 1e-2}
PEFT_RATES: dict[str, float] = {}
LYCORIS_RATES: dict[str, float] = {}


def peer_learning_rate(method: str, name: str | None = None) -> float:
    """The rate of a method, and of the tuner or algorithm ``name`` where the method has several."""
    if method in METHOD_RATES:
        return METHOD_RATES[method]
    rates = PEFT_RATES if method == "peft" else LYCORIS_RATES
    return rates.get(name or "", DEFAULT_RATE)
