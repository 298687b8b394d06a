"""How fast settings are counted on a Stable-Diffusion-sized list of targets, beside a plain loop over all groups.

Run: python scripts/bench/counting.py [--settings 1000]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from superlora_diffusion import SuperLoRAConfig, count_parameters, find_targets
from superlora_diffusion.adapters.budget import list_settings
from superlora_diffusion.adapters.plan import make_plan
from superlora_diffusion.adapters.space import FAMILIES, settings_of
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.models.shapes import network_on_meta

# Stable Diffusion 1.5's denoiser, by the fields that decide its shapes.
NETWORK = {
    "_class_name": "UNet2DConditionModel",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "sample_size": 64,
}
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(NETWORK))
        build = measure(lambda: network_on_meta(BaseSettings(path=str(path))), options.repeats)
        network = network_on_meta(BaseSettings(path=str(path)))
    targets = find_targets(network, SuperLoRAConfig(targets=TARGETS))
    fields = spread(options.settings)
    configs = [SuperLoRAConfig(targets=TARGETS, **values) for values in fields]
    rows = [
        ("network on the meta device", 1, build),
        ("configs checked", len(fields), measure(lambda: build_configs(fields), options.repeats)),
        ("counted by a loop over all groups", len(configs),
         measure(lambda: [make_plan(config, targets).count for config in configs], 1)),
        ("counted, each kind of group once", len(configs),
         measure(lambda: [count_parameters(config, targets) for config in configs], options.repeats)),
        ("params --budget 5000, all of it", list_settings(5000, targets, patterns=TARGETS).examined,
         measure(lambda: list_settings(5000, targets, patterns=TARGETS), options.repeats)),
    ]  # fmt: skip
    slow = [make_plan(config, targets).count for config in configs[::10]]
    assert slow == [count_parameters(config, targets) for config in configs[::10]]
    table = Table(title=f"{len(targets)} targets, median of {options.repeats} (the loop: one)")
    for heading in ("what", "settings", "seconds", "ms a setting"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for what, count, seconds in rows:
        table.add_row(what, f"{count:,}", f"{seconds:.3f}", f"{1000 * seconds / count:.3f}")
    Console(width=100).print(table)


def spread(count: int) -> list[dict]:
    """As many settings, evenly over the whole space."""
    everything = list(itertools.chain.from_iterable(settings_of(family) for family in FAMILIES))
    return everything[:: max(1, len(everything) // count)][:count]


def build_configs(fields: list[dict]) -> list[SuperLoRAConfig]:
    return [SuperLoRAConfig(targets=TARGETS, **values) for values in fields]


def measure(work: Callable[[], object], repeats: int) -> float:
    """Median seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()
