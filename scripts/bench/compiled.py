"""torch.compile of a network with an adapter: graph breaks, recompilations, and a compiled step against an eager one.

Run: python scripts/bench/compiled.py [--quick] [--device cuda]
"""

from __future__ import annotations

import warnings

import torch
from common import Record, finish, parser, ratio, start, time_paired
from networks import OURS, attach_ours, base_16, train_targets
from step import step_of
from torch._dynamo.utils import counters

SETTINGS = ("lora", "lorta", "lorta, block_hadamard 0.01")


def main() -> None:
    options = parser(__doc__).parse_args()
    device = start(options)
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    backend = "aot_eager" if options.quick else "inductor"
    network, records, works = base_16(), [], {}
    for name in SETTINGS[1:2] if options.quick else SETTINGS:
        prepare = lambda net, n=name: attach_ours(net, OURS[n])  # noqa: E731
        compiled = step_of(network, 64, device, prepare, backend)
        records += graphs(name, compiled)
        works |= {f"{name}, compiled": compiled, f"{name}, eager": step_of(network, 64, device, prepare)}
    if not options.quick:
        works["bare weights, compiled"] = step_of(network, 64, device, train_targets, backend)
        seconds = time_paired(works, 20, 2, device)
        for name in SETTINGS:
            taken = seconds[f"{name}, compiled"]
            records.append(Record("compile", f"{name}, compiled", "the same, eager",
                                  *ratio(taken, seconds[f"{name}, eager"])))  # fmt: skip
            records.append(Record("compile", f"{name}, compiled", "bare weights, compiled",
                                  *ratio(taken, seconds["bare weights, compiled"]), 1.03))  # fmt: skip
    finish("torch.compile", records, options, f"Backend {backend}, full graph, batch 64, 16 px.")


def graphs(name: str, step) -> list[Record]:
    """Graph breaks of the first steps, and graphs compiled beyond the first step's."""
    torch._dynamo.reset()
    counters.clear()
    step()
    first = counters["stats"]["unique_graphs"]
    for _ in range(3):
        step()
    breaks = sum(counters["graph_break"].values())
    later = counters["stats"]["unique_graphs"] - first
    return [
        Record("compile", f"{name}: graph breaks", "none", float(breaks), 0.0, 0.0, "count"),
        Record("compile", f"{name}: graphs compiled after the first step", "none", float(later), 0.0, 0.0, "count"),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
