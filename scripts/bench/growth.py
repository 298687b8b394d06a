"""How generation grows with the number of weights, and a training step with rank, order, groups and ratio.

Slopes are those of log(time) or log(memory) against log(N), fitted over the decades shown; 1 is linear. The note at the
end works out from them what an adapter on a model of 10^9 target weights would take beside the model, on an 80 GB card.

Run: python scripts/bench/growth.py [--quick] [--plot FILE.png]
"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import torch
from common import EmptyCaches, PeakCounter, Record, finish, parser, ratio, start, time_paired
from generation import generation_of, spread_of
from networks import attach_ours, base_16
from step import step_of

from superlora_diffusion.adapters.projection import draw_arrays, pull_back

KINDS = {
    "Tucker, order 3, rank 5": dict(order=3, core="full", rank=5),
    "CP, order 4, rank 5": dict(order=4, rank=5),
    "Kronecker, 2 splits, rank 4": dict(splits=2, rank=4),
    "block_hadamard, 1,000 numbers": "block_hadamard",
    "fastfood, 1,000 numbers": "fastfood",
}
AXES = {
    "rank": [{"variant": "lorta", "rank": rank} for rank in (1, 2, 4, 8, 16, 32)],
    "order": [{"variant": "lorta", "order": order} for order in (3, 4, 5)],
    "groups": [{"variant": "lorta", "groups": groups} for groups in (1, 4, 16, 64)],
    "ratio": [{"variant": "lorta", "projection": "block_hadamard", "ratio": rho} for rho in (0.001, 0.01, 0.1, 1.0)],
}  # fmt: skip


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--plot", type=Path, metavar="FILE", help="draw time and memory against N")
    options = made.parse_args()
    device = start(options)
    sizes = [10**k for k in range(4, 7 if options.quick else 9)]
    curves = {name: grow(kind, sizes, device, 3 if options.quick else 9) for name, kind in KINDS.items()}
    records = []
    for name, (times, peaks) in curves.items():
        last = slice(-3, None)  # the largest decades: below them it is the overhead of calls that is seen
        records.append(slope(name, "time", sizes[last], times[last]))
        records.append(slope(name, "memory", sizes[last], peaks[last]))
    records += steps(options, device)
    if options.plot:
        plot(options.plot, sizes, curves)
    finish("Growth", records, options, "" if options.quick else on_one_card(sizes[-1], curves))


def grow(kind, sizes: list[int], device: torch.device, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of forward and backward at each N, and bytes at the peak beside arrays and the incoming gradient."""
    times, peaks = [], []
    for n in sizes:
        works = works_of(kind, n, device)
        between = EmptyCaches(device)
        few = max(3, rounds // 3) if n >= 10**7 else rounds
        seconds = time_paired(works, few, 1, device, between)
        times.append(statistics.median(map(sum, zip(*seconds.values(), strict=True))))
        del between
        with PeakCounter() as counter:
            for work in works.values():
                work()
        peaks.append(float(counter.peak))
    return times, peaks


def works_of(kind, n: int, device: torch.device) -> dict:
    """Forward and backward of one kind of generation at N = n."""
    if isinstance(kind, dict):
        return generation_of(kind, n, device)
    x, grad = torch.randn(min(1000, n), device=device), torch.randn(n, device=device)
    arrays = {key: value.to(device) for key, value in draw_arrays(kind, (1, n), len(x), 0, 0).items()}
    return {
        "forward": spread_of(kind, x, n, arrays),
        "backward": lambda: pull_back(kind, grad, x, (1, n), arrays),
    }


def slope(name: str, unit: str, sizes: list[int], values: list[float]) -> Record:
    fitted = float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
    told = f"{name}: slope of {unit} over N = {sizes[0]:.0e} to {sizes[-1]:.0e}"
    return Record("growth", told, "linear is 1", fitted, 0.0, 1.1 if unit == "time" else 1.05, unit)


def steps(options, device: torch.device) -> list[Record]:
    """A training step of the 16 px base along each axis, against the axis's first setting."""
    network, records = base_16(), []
    for axis, settings in AXES.items():
        if options.quick and axis != "rank":
            continue
        chosen = settings[:: len(settings) - 1] if options.quick else settings
        works = {f"{axis} {fields[axis]}": step_of(network, 64, device, lambda net, f=fields: attach_ours(net, f))
                 for fields in chosen}  # fmt: skip
        seconds = time_paired(works, 3 if options.quick else 20, 1 if options.quick else 2, device)
        first = next(iter(works))
        records += [
            Record("growth", f"step, {name}", first, *ratio(taken, seconds[first]))
            for name, taken in seconds.items()
            if name != first
        ]
    return records


def on_one_card(n: int, curves: dict) -> str:
    """What 10^9 target weights would take, from the memory a weight at the largest N measured."""
    times, peaks = curves["Tucker, order 3, rank 5"]
    _, spread = curves["block_hadamard, 1,000 numbers"]
    a_weight, spread_weight = peaks[-1] / n, spread[-1] / n
    peak = 2 + 2 + max(a_weight, 6) + 1
    return (
        f"Measured at N = {n:.0e}: {a_weight:.1f} bytes a weight for a Tucker's forward and backward (the update "
        f"itself is 4), {spread_weight:.1f} for a spread, {times[-1] / n * 1e9:.1f} s for 1e9 weights on this CPU. "
        "A joint adapter on 10^9 target weights thus takes, beside a bf16 model of 2 GB: weight + update in bf16 2 GB, "
        f"its fp32 source {a_weight:.0f} GB while it is made, gradients in bf16 2 GB and joined in fp32 4 GB; with a "
        f"spread 1 GB of signs. At the peak about {peak:.0f} GB of 80, before activations; matrix by matrix, or as "
        "products, megabytes."
    )


def plot(path: Path, sizes: list[int], curves: dict) -> None:
    """Time and memory against N, log-log, with a linear guide."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, which, label in zip(
        axes, (0, 1), ("seconds, forward and backward", "bytes at the peak"), strict=True
    ):
        for name, values in curves.items():
            axis.loglog(sizes, values[which], marker="o", label=name)
        guide = curves["Tucker, order 3, rank 5"][which][-1]
        axis.loglog(sizes, [guide * n / sizes[-1] for n in sizes], "k:", label="linear")
        axis.set_xlabel("N, weights")
        axis.set_ylabel(label)
    axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
