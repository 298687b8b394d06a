"""Time to generate an update, and its gradient, against filling as many floats; spreads against copying them.

Filling and copying allocate their result, as generation does. Caches are emptied before each call, as a training step
empties them between two generations; --hot leaves them full, where filling runs at the speed of the cache.

Run: python scripts/bench/generation.py [--quick] [--hot]
"""

from __future__ import annotations

import torch
from common import EmptyCaches, Record, finish, parser, ratio, start, time_paired

from superlora_diffusion import SuperLoRAConfig
from superlora_diffusion.adapters.generation import start_tensor
from superlora_diffusion.adapters.plan import make_plan
from superlora_diffusion.adapters.projection import draw_arrays, project, project_into, pull_back
from superlora_diffusion.adapters.units import make_units, unit_gradients, write_unit

SETTINGS = {
    "Tucker, order 3, rank 5": dict(order=3, core="full", rank=5),
    "Tucker, order 4, rank 5": dict(order=4, core="full", rank=5),
    "Tucker, order 5, rank 5": dict(order=5, core="full", rank=5),
    "Tucker, order 3, rank 5, 12 groups": dict(order=3, core="full", rank=5, groups=12),
    "CP, order 3, rank 5": dict(order=3, rank=5),
    "CP, order 4, rank 5": dict(order=4, rank=5),
    "CP, order 5, rank 5": dict(order=5, rank=5),
    "low rank, order 2, rank 8": dict(rank=8),
    "Kronecker, 2 splits, rank 4": dict(splits=2, rank=4),
    "Kronecker, 3 splits, rank 4": dict(splits=3, rank=4),
}
SPREADS = [
    ("fastfood", 0.01),
    ("fastfood", 1.0),
    ("block_hadamard", 0.001),
    ("block_hadamard", 0.01),
    ("gather", 0.01),
    ("gather", 1.0),
    ("fourier", 0.01),
    ("fourier", 1.0),
    ("shuffle", 1.0),
]
PROMISED = ("fastfood, ratio 0.01", "block_hadamard, ratio 0.01")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--hot", action="store_true", help="do not empty the caches")
    options = made.parse_args()
    device = start(options)
    between = None if options.hot else EmptyCaches(device)
    rounds = 9 if options.quick else 25
    records = []
    for n in (500_000, 5_000_000) if options.quick else (500_000, 5_000_000, 50_000_000):
        records += factorings(n, rounds, device, between)
    for n in (565_248,) if options.quick else (565_248, 2**24):
        records += spreads(n, max(5, rounds // 3), device, between)
    finish(
        "Generation", records, options, "Caches full." if options.hot else "Caches emptied before each call."
    )


def factorings(n: int, rounds: int, device: torch.device, between) -> list[Record]:
    """Forward, and forward and backward, of every factoring."""
    works = {"fill": lambda: torch.full((n,), 1.0, device=device)}
    for name, fields in SETTINGS.items():
        works |= {f"{name} {kind}": work for kind, work in generation_of(fields, n, device).items()}
    seconds = time_paired(works, rounds, 2, device, between)
    records = []
    for name in SETTINGS:
        forward, backward = seconds[f"{name} forward"], seconds[f"{name} backward"]
        both = [a + b for a, b in zip(forward, backward, strict=True)]
        for kind, taken, target in (("forward", forward, 3.0), ("forward and backward", both, 8.0)):
            label = f"{name}, N = {n:,}: {kind}"
            records.append(
                Record("generation", label, f"fill of {n:,}", *ratio(taken, seconds["fill"]), target)
            )
    return records


def generation_of(fields: dict, n: int, device: torch.device) -> dict:
    """The forward and the backward of one setting on one matrix of n weights."""
    shape = (n // 1000, 1000)
    plan = make_plan(SuperLoRAConfig(**fields), [("layer.to_q", *shape)])
    (unit,) = make_units(plan, [torch.Size(shape)])
    tensors = {t.name: (start_tensor(t, 0) + 0.1).to(device) for group in plan.groups for t in group.tensors}
    grad, arrays = torch.randn(n, device=device), [{} for _ in plan.groups]
    return {
        "forward": lambda: write_unit(unit, tensors, arrays, "none", 1.0),
        "backward": lambda: unit_gradients(unit, tensors, arrays, "none", 1.0, grad),
    }


def spreads(n: int, rounds: int, device: torch.device, between) -> list[Record]:
    """Each spread and its transpose against a copy of n floats; the plain reference beside it."""
    source, grid = torch.randn(n, device=device), (1, n)
    works = {"copy": source.clone}
    for kind, share in SPREADS:
        m = max(1, round(share * n))
        x = torch.randn(m, device=device)
        arrays = {key: value.to(device) for key, value in draw_arrays(kind, grid, m, 0, 0).items()}
        name = f"{kind}, ratio {share:g}, n = {n:,}"
        works[f"{name}: forward"] = spread_of(kind, x, n, arrays)
        works[f"{name}: backward"] = lambda kind=kind, x=x, arrays=arrays: pull_back(
            kind, source, x, grid, arrays
        )
        works[f"{name}: reference, forward"] = lambda kind=kind, x=x, arrays=arrays: project(
            kind, x, grid, arrays
        )
    seconds = time_paired(works, rounds, 1, device, between)
    records = []
    for name, taken in seconds.items():
        if name != "copy":
            promised = n == 2**24 and name.startswith(PROMISED) and "reference" not in name
            found = ratio(taken, seconds["copy"])
            records.append(Record("projection", name, f"copy of {n:,}", *found, 6.0 if promised else None))
    return records


def spread_of(kind: str, x: torch.Tensor, n: int, arrays: dict):
    return lambda: project_into(kind, x, torch.empty(n, device=x.device), (1, n), arrays)


if __name__ == "__main__":
    main()
