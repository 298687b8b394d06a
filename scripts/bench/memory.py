"""Peak memory of training steps at Stable Diffusion 1.5's size, against PEFT LoRA rank 8.

Every setting trains q and v of a randomly built denoiser (860 million weights, fp32) in a process of its own, on small
latents. What is compared is the highest resident memory during the steps (on a GPU: allocated), less what
the process held before the network was built. The fixed arrays of a setting are listed beside it.

Run: python scripts/bench/memory.py [--quick] [--latents 16]
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path

import torch
from common import Record, finish, parser, start
from networks import OURS, attach_ours, attach_theirs, stable_diffusion_unet
from torch import nn

from superlora_diffusion.training.setup import adamw

LORA = "PEFT LoRA r8"
SETTINGS = {
    **{name: OURS[name] for name in ("lora", "lokr", "lotr", "group_lora", "lorta", "lorta, 12 groups")},
    "lora, as weights": {"variant": "lora", "route": "weight"},
    "lonkr": OURS["lonkr"],
    "lorta, shuffle": {"variant": "lorta", "projection": "shuffle"},
    "lorta, block_hadamard 0.001": {"variant": "lorta", "projection": "block_hadamard", "ratio": 0.001},
    "lorta, fastfood 0.001": {"variant": "lorta", "projection": "fastfood", "ratio": 0.001},
}
MATRIX_WISE = ("lora", "lokr", "lotr", "lora, as weights")
QUICK = ("lora", "lorta")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--latents", type=int, default=16, help="side of the latents")
    made.add_argument("--case", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.case:
        rounds = 1 if options.quick else 3
        print(json.dumps(measure(options.case, options.latents, start(options), rounds)))
        return
    wanted = [name for name in SETTINGS if not options.quick or name in QUICK]
    found = {name: in_its_own_process(name, sys.argv[1:]) for name in [LORA, *wanted]}
    reference, records = found[LORA]["peak"], []
    for name in wanted:
        limit = 1.10 if name in MATRIX_WISE else 1.25
        records.append(
            Record("memory", name, LORA, found[name]["peak"] / reference, 0.0, limit, "peak memory")
        )
    note = "; ".join(
        f"{name}: {case['peak'] / 2**20:,.0f} MiB, arrays {case['arrays'] / 2**20:,.0f} MiB"
        for name, case in found.items()
    )
    finish("Memory at Stable Diffusion 1.5's size", records, options, note)


def in_its_own_process(name: str, arguments: list[str]) -> dict[str, int]:
    """Run one case apart from the others, so that no memory of theirs counts."""
    command = [sys.executable, str(Path(__file__)), *arguments, "--case", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, latents: int, device: torch.device, rounds: int) -> dict[str, int]:
    """Bytes at the peak of a few training steps, and bytes of fixed arrays."""
    before = memory_now(device)
    network = built(stable_diffusion_unet, device)
    parameters = attach_theirs(network, name) if name == LORA else attach_ours(network, SETTINGS[name])
    network.to(device).train()
    arrays = sum(value.numel() * value.element_size() for value in network.buffers())
    optimizer = adamw(parameters, lr=1e-4)
    image, text = torch.randn(1, 4, latents, latents, device=device), torch.randn(1, 77, 768, device=device)
    peak = 0
    for _ in range(rounds):
        gc.collect()
        forget_peak(device)
        network(image, torch.tensor([500], device=device), text).sample.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        peak = max(peak, memory_peak(device))
    return {"peak": peak - before, "arrays": arrays}


def built(build, device: torch.device) -> nn.Module:
    """A network whose weights are drawn in place: building it the usual way takes minutes."""
    with torch.device("meta"):
        network = build()
    network.to_empty(device=device)
    for parameter in network.parameters():
        parameter.data.uniform_(-0.02, 0.02)
    return network


def _status(field: str) -> int:
    """A line of the process's own status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(field))) * 1024


def memory_now(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def memory_peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
