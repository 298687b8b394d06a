"""A whole training step (loss, backward, optimiser) of every variant against PEFT LoRA, other peers, and the floor.

The floor trains the target weights themselves, with no adapter: what the same gradients cost in any case.
"step-16px" is the embedded base at batch 64, "step-paper" the paper's U-Net at 32 px and batch 8. Peers are given the
same targets, loss and optimiser. --routes compares the two ways in which LoRA's update can reach its layers.

Run: python scripts/bench/step.py [--quick] [--routes] [--device cuda]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import Record, finish, parser, ratio, start, time_paired
from networks import (
    OURS,
    PEERS,
    TARGETS,
    attach_ours,
    attach_theirs,
    base_16,
    copy_of,
    noise_schedule,
    paper_unet,
    train_targets,
)
from torch import nn

from superlora_diffusion import SuperLoRAConfig
from superlora_diffusion.adapters.projection import draw_arrays, project_into, pull_back
from superlora_diffusion.adapters.targets import find_targets
from superlora_diffusion.models.base import Base
from superlora_diffusion.training.losses import denoising_loss
from superlora_diffusion.training.setup import adamw

BENCHES = {"step-16px": (base_16, 64, 0.90), "step-paper": (paper_unet, 8, 0.97)}
FLOOR, FLOOR_TARGET, PEER_TARGET = "bare weights", 1.03, 0.95
LORA = "PEFT LoRA r8"
QUICK = ("lora", "lorta", "lorta, block_hadamard 0.01")
ROUTES = {f"lora r{rank}, {route}": {"variant": "lora", "rank": rank, "route": route}
          for rank in (1, 8, 32) for route in ("weight", "products")}  # fmt: skip


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--routes", action="store_true", help="compare weight and products for LoRA")
    made.add_argument("--only", choices=BENCHES, help="one of the two benches")
    options = made.parse_args()
    device = start(options)
    records = []
    for bench, (build, batch, target) in BENCHES.items():
        if options.only in (None, bench) and not (
            options.quick and bench == "step-paper" and not options.only
        ):
            records += compare(bench, build(), batch, target, options, device)
    finish("Training step", records, options)


def compare(bench: str, network: nn.Module, batch: int, target: float, options, device) -> list[Record]:
    """Ratios of one network's steps."""
    ours = ROUTES if options.routes else {name: OURS[name] for name in (QUICK if options.quick else OURS)}
    peers = [LORA] if options.quick or options.routes else list(PEERS)
    works = {name: step_of(network, batch, device, lambda net, f=fields: attach_ours(net, f))
             for name, fields in ours.items()}  # fmt: skip
    works |= {
        name: step_of(network, batch, device, lambda net, n=name: attach_theirs(net, n)) for name in peers
    }
    works[FLOOR] = step_of(network, batch, device, train_targets)
    spreads = {} if options.routes else spreads_alone(network, device)
    seconds = time_paired(works | spreads, 5 if options.quick else 20, 1 if options.quick else 3, device)
    records = []
    for name in ours:
        for reference in [*peers, FLOOR]:
            limit = {LORA: target, FLOOR: FLOOR_TARGET}.get(reference, PEER_TARGET)
            records.append(Record(bench, name, reference, *ratio(seconds[name], seconds[reference]), limit))
    for name in spreads:
        records.append(Record(bench, name, f"a step of {FLOOR}", *ratio(seconds[name], seconds[FLOOR]), 0.01))
    return records


def spreads_alone(network: nn.Module, device: torch.device) -> dict[str, Callable[[], None]]:
    """Forward and backward of a spread over all target weights, by itself."""
    targets = find_targets(network, SuperLoRAConfig(targets=TARGETS))
    n, works = sum(target.size for target in targets), {}
    for kind in ("fastfood", "block_hadamard"):
        x, grad = torch.randn(n // 100, device=device), torch.randn(n, device=device)
        arrays = {key: value.to(device) for key, value in draw_arrays(kind, (1, n), len(x), 0, 0).items()}

        def spread(kind=kind, x=x, grad=grad, arrays=arrays) -> None:
            project_into(kind, x, torch.empty_like(grad), (1, n), arrays)
            pull_back(kind, grad, x, (1, n), arrays)

        works[f"{kind} 0.01 of {n:,}, forward and backward, alone"] = spread
    return works


def step_of(
    network: nn.Module,
    batch: int,
    device: torch.device,
    prepare: Callable[[nn.Module], list[nn.Parameter]],
    backend: str | None = None,
) -> Callable[[], None]:
    """One optimiser step of a copy of the network with something attached, compiled whole where a backend is given."""
    copied = copy_of(network, torch.device("cpu"))
    parameters = prepare(copied)  # on the CPU, where what is drawn does not depend on the device
    copied.to(device)
    called = copied if backend is None else torch.compile(copied, fullgraph=True, backend=backend)
    optimizer, scheduler = adamw(parameters, lr=1e-4), noise_schedule()
    generator = torch.Generator().manual_seed(0)
    size = network.config.sample_size
    images, noise = torch.randn(2, batch, 3, size, size, generator=generator).to(device)
    timesteps = torch.randint(0, 1000, (batch,), generator=generator).to(device)
    condition = {"class_labels": torch.randint(0, 10, (batch,), generator=generator).to(device)}
    base = Base(copied, scheduler, (), None, "bench")

    def step() -> None:
        denoising_loss(base, called, images, condition, noise, timesteps).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
