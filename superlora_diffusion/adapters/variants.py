"""Named settings: which fields make which published method, and the learning rate measured for each.

LoRA (Hu 2022), LoKr (LyCORIS), LoTR (Bershatsky 2024), LoNKr and LoRTA (SuperLoRA, arXiv 2403.11887),
SVDiff's parameters (Han 2023).
The rates come from the search in ``docs/results.md``.
"""

from __future__ import annotations

from typing import Any

VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {"groups": "weight", "order": 1},
    "lora": {"groups": "weight", "fold": "none", "rank": 8},
    "group_lora": {"groups": 4, "rank": 8},
    "lokr": {"groups": "weight", "fold": "none", "splits": 2, "split_factor": 8, "rank": 8},
    "lonkr": {"splits": 3, "split_factor": 6, "rank": 4},
    "lotr": {"groups": "shape", "fold": "stack", "order": 3, "core": "full", "rank": 4},
    "lorta": {"groups": 1, "order": 3, "core": "full", "rank": 5},
    "spectral": {"groups": 1, "order": 1, "projection": "singular", "directions": 8},
}

# The best of a race of 150 steps each, or the lower rate where two lie within 1 %; spectral's was tried by hand.
LEARNING_RATES: dict[str, float] = {
    "dense": 8e-3,
    "lora": 2e-2,
    "group_lora": 2e-2,
    "lokr": 4e-2,
    "lonkr": 3.2e-1,
    "lotr": 8e-2,
    "lorta": 4e-2,
    "spectral": 1e-1,
}

DEFAULT_LEARNING_RATE = 2e-2

# Under these steps one rate is for all settings (docs/results.md): gain's is within 1 % of each setting's own best
# loss, on a coarse grid; rms's is the least bad of its rates, and the smallest settings lose a fifth by it.
ONE_RATE: dict[str, float] = {"rms": 3e-2, "gain": 1e-2}
