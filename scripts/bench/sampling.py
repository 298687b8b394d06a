"""Sampling with an adapter against the base, the sampler against bare network calls, and what might make either faster.

Run: python scripts/bench/sampling.py [--quick] [--device cuda]
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from common import Record, finish, parser, ratio, start, time_paired
from networks import OURS, TARGETS

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.models.base import Base
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.models.storage import load_base
from superlora_diffusion.sampling.config import SamplingSettings
from superlora_diffusion.sampling.producer import generate


def main() -> None:
    options = parser(__doc__).parse_args()
    device = start(options)
    count, steps, rounds = (50, 3, 5) if options.quick else (50, 5, 20)
    base = load_base(BaseSettings())
    base.network.to(device).requires_grad_(
        False
    )  # as with an adapter: torch takes other kernels where it is needed
    settings = SamplingSettings(steps=steps, batch_size=count, guidance_scale=1.5)
    works = {"base": lambda: draw(base, settings), "network calls": network_calls(base, count, steps, device)}
    adapted = {name: with_adapter(base, name) for name in ("lorta", "lora")}
    for name, (drawn_from, adapter) in adapted.items():
        works[f"{name}, unmerged"] = lambda b=drawn_from, a=adapter: cached_draw(b, a, settings)
    merged, adapter = with_adapter(base, "lorta")
    adapter.merge()
    works["lorta, merged"] = lambda: draw(merged, settings)
    works["guidance 1"] = lambda: draw(base, settings.model_copy(update={"guidance_scale": 1.0}))
    works |= {name: lambda b=other: draw(b, settings) for name, other in faster(base, options.quick).items()}
    works["bf16 autocast"] = lambda: in_bf16(base, settings, device)
    seconds = time_paired(works, rounds, 2, device)
    limits = {"lorta, merged": 1.01, "lorta, unmerged": 1.02, "lora, unmerged": 1.02}
    records = [
        Record("sampling", name, "base", *ratio(taken, seconds["base"]), limits.get(name))
        for name, taken in seconds.items()
        if name not in ("base", "network calls")
    ]
    overhead = ratio(seconds["base"], seconds["network calls"])
    records.append(Record("sampling", "the sampler (ddpm)", "bare network calls", *overhead, 1.03))
    finish("Sampling", records, options, f"{count} images at once, {steps} steps, guidance 1.5.")


def draw(base: Base, settings: SamplingSettings) -> None:
    generate(base, np.arange(settings.batch_size) % base.classes, settings.batch_size, settings)


def cached_draw(base: Base, adapter, settings: SamplingSettings) -> None:
    with adapter.cached():
        draw(base, settings)


def in_bf16(base: Base, settings: SamplingSettings, device: torch.device) -> None:
    with torch.autocast(device.type, torch.bfloat16):
        draw(base, settings)


def with_adapter(base: Base, name: str) -> tuple[Base, object]:
    copied = copy.deepcopy(base)
    return copied, attach(copied.network, SuperLoRAConfig(targets=TARGETS, **OURS[name]))


def faster(base: Base, quick: bool) -> dict[str, Base]:
    """The base with what might be faster."""
    channels_last = copy.deepcopy(base)
    channels_last.network.to(memory_format=torch.channels_last)
    found = {"channels_last": channels_last}
    if not quick:
        compiled = copy.deepcopy(base)
        compiled.network.compile()
        found["torch.compile"] = compiled
    return found


def network_calls(base: Base, count: int, steps: int, device: torch.device) -> Callable[[], None]:
    """Only the calls that the sampler makes, on the same batch."""
    images = torch.randn(2 * count, base.channels, base.size, base.size, device=device)
    labels = torch.arange(2 * count, device=device) % base.classes
    times = torch.linspace(999, 0, steps, device=device).long()

    @torch.no_grad()
    def calls() -> None:
        base.network.eval()
        for time in times:
            base.network(images, time, class_labels=labels)

    return calls


if __name__ == "__main__":
    main()
