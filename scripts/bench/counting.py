"""How fast settings are counted on a Stable-Diffusion-sized list of targets, beside a plain loop over all groups.

Run: python scripts/bench/counting.py [--quick] [--settings 1000]
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path

from common import Record, finish, parser, ratio, start, time_paired

from superlora_diffusion import SuperLoRAConfig, count_parameters, find_targets
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
    made = parser(__doc__)
    made.add_argument("--settings", type=int, default=1000)
    options = made.parse_args()
    device = start(options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(NETWORK))
        targets = find_targets(
            network_on_meta(BaseSettings(path=str(path))), SuperLoRAConfig(targets=TARGETS)
        )
    fields = spread(100 if options.quick else options.settings)
    configs = [SuperLoRAConfig(targets=TARGETS, **values) for values in fields]
    slow = [make_plan(config, targets).count for config in configs[::10]]
    assert slow == [count_parameters(config, targets) for config in configs[::10]]
    works = {
        "a loop over all groups": lambda: [make_plan(config, targets).count for config in configs],
        "each kind of group once": lambda: [count_parameters(config, targets) for config in configs],
        "configs checked": lambda: build_configs(fields),
    }
    seconds = time_paired(works, 3 if options.quick else 20, 1, device)
    reference = "a loop over all groups"
    records = [
        Record("counting", f"{len(configs)} settings, {name}", reference, *ratio(taken, seconds[reference]))
        for name, taken in seconds.items()
        if name != reference
    ]
    finish("Counting", records, options, f"{len(targets)} targets.")


def spread(count: int) -> list[dict]:
    """As many settings, evenly over the whole space."""
    everything = list(itertools.chain.from_iterable(settings_of(family) for family in FAMILIES))
    return everything[:: max(1, len(everything) // count)][:count]


def build_configs(fields: list[dict]) -> list[SuperLoRAConfig]:
    return [SuperLoRAConfig(targets=TARGETS, **values) for values in fields]


if __name__ == "__main__":
    main()
