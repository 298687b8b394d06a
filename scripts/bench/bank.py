"""A bank of a thousand adapters: switching against one network call, and its memory.

The paper's U-Net at batch 1, and adapters of LoRTA with 12 groups and rank 5: 8,160 numbers each.

Run: python scripts/bench/bank.py [--quick] [--adapters 1000]
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import Record, finish, parser, ratio, start, time_paired
from networks import OURS, TARGETS, paper_unet
from safetensors.torch import load_file, save_file
from torch import nn

from superlora_diffusion import AdapterBank, SuperLoRAConfig, attach
from superlora_diffusion.adapters.reading import CONFIG, WEIGHTS

CALL, LIMIT = "one network call", 100e6


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--adapters", type=int, default=1000)
    options = made.parse_args()
    device = start(options)
    network = paper_unet().eval().to(device)
    bank = filled_bank(network, options.adapters)
    seconds = time_paired(switches(network, bank, device), 10 if options.quick else 40, 3, device)
    records = [
        Record("bank", name, CALL, *ratio(taken, seconds[CALL]), 1.0)
        for name, taken in seconds.items()
        if name != CALL
    ]
    memory = Record("bank", "all that it holds", "100 MB", bank.nbytes / LIMIT, 0.0, 1.0, "memory")
    bank.use(None)
    note = f"{len(bank):,} adapters of {bank.count('0'):,} numbers: {bank.nbytes / 1e6:.1f} MB."
    finish("A bank of adapters", [*records, memory], options, note)


def filled_bank(network: nn.Module, count: int) -> AdapterBank:
    """A bank of so many adapters of one kind, whose numbers are random."""
    bank = AdapterBank(network)
    with tempfile.TemporaryDirectory() as place:
        first, folder = Path(place, "first"), Path(place, "folder")
        adapter = attach(network, SuperLoRAConfig(targets=TARGETS, **OURS["lorta, 12 groups"]))
        adapter.save_pretrained(first)
        adapter.unload()
        folder.mkdir()
        shutil.copy(first / CONFIG, folder)
        numbers = load_file(first / WEIGHTS)
        for index in range(count):
            save_file(
                {key: 0.1 * torch.randn_like(value) for key, value in numbers.items()}, folder / WEIGHTS
            )
            bank.add(str(index), folder)
    return bank


def switches(network: nn.Module, bank: AdapterBank, device: torch.device) -> dict[str, Callable[[], None]]:
    """What is timed, by name."""
    image, label = torch.randn(1, 3, 32, 32, device=device), torch.tensor([1], device=device)
    time = torch.tensor([500], device=device)
    names = itertools.cycle(bank.names)

    @torch.no_grad()
    def call() -> None:
        network(image, time, class_labels=label)

    def cached() -> None:
        with bank.cached():
            bank.use(next(names))

    def there_and_back() -> None:
        bank.use(None)
        bank.use(next(names))

    def mix() -> None:
        bank.use({next(names): 0.7, next(names): 0.3})

    return {
        CALL: call,
        "to another adapter": lambda: bank.use(next(names)),
        "to the base and back": there_and_back,
        "to a mix of two": mix,
        "to another, updates kept": cached,
    }


if __name__ == "__main__":
    main()
