"""What all benches share: paired, interleaved timing; records; tables; options.

A ratio is the median over rounds of (time of one) / (time of its reference in the same round), so that a machine that
is slow for a while is slow for both. The spread is half the distance between the quartiles of these ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Work = Callable[[], object]


@dataclass(frozen=True)
class Record:
    """One ratio."""

    bench: str
    name: str
    reference: str
    ratio: float
    spread: float
    target: float | None = None
    """What it should not exceed, where something was promised."""
    unit: str = "time"
    """What the ratio is of."""

    @property
    def verdict(self) -> str:
        """Whether the target is kept: "yes", "no", or "" where there is none."""
        return "" if self.target is None else ("yes" if self.ratio <= self.target else "no")


def parser(description: str) -> argparse.ArgumentParser:
    """The options of every bench."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--quick", action="store_true", help="fewer repeats and the smaller cases: under 45 seconds"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the records to this file")
    made.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table to this file as a section"
    )
    made.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    made.add_argument("--threads", type=int, default=1, help="threads on the CPU")
    return made


def start(options: argparse.Namespace) -> torch.device:
    """Apply the common options."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return torch.device(options.device)


def time_paired(
    works: Mapping[str, Work], rounds: int, warm_up: int, device: torch.device, between: Work | None = None
) -> dict[str, list[float]]:
    """Seconds of each work in each round. The works take turns, and who begins moves on from round to round.

    Args:
        works: what is timed, by name.
        rounds: how often each.
        warm_up: rounds before, not counted.
        device: whose queue is waited for.
        between: done before each work, not timed.
    """
    names, seconds = list(works), {name: [] for name in works}
    for round_ in range(-warm_up, rounds):
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            if between is not None:
                between()
            taken = timed(works[name], device)
            if round_ >= 0:
                seconds[name].append(taken)
    return seconds


def timed(work: Work, device: torch.device) -> float:
    """Seconds of one call."""
    synchronise(device)
    begun = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begun


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(of: list[float], to: list[float]) -> tuple[float, float]:
    """Median of the paired ratios, and half the distance of their quartiles."""
    ratios = [a / b for a, b in zip(of, to, strict=True)]
    if len(ratios) < 2:
        return ratios[0], 0.0
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return statistics.median(ratios), (high - low) / 2


class EmptyCaches:
    """Read and write more memory than the caches hold, as a training step does between two generations."""

    def __init__(self, device: torch.device, megabytes: int = 96) -> None:
        self.memory = torch.zeros(megabytes * 2**18, device=device)

    def __call__(self) -> None:
        self.memory.add_(1)


class PeakCounter(TorchDispatchMode):
    """Counts bytes of the tensors that operations make, as long as they live: the same on every device."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {
            value.untyped_storage()._cdata
            for value in tree_leaves((args, kwargs))
            if isinstance(value, Tensor)
        }
        result = func(*args, **(kwargs or {}))
        self._live = {key: (ref, size) for key, (ref, size) in self._live.items() if not ref.expired()}
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in known:
                storage = value.untyped_storage()
                self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result


def show(title: str, records: Iterable[Record], note: str = "") -> None:
    """Print records as a table."""
    table = Table(title=title, title_justify="left")
    for heading, justify in (("bench", "left"), ("name", "left"), ("against", "left"), ("ratio", "right"),
                             ("spread", "right"), ("target", "right"), ("kept", "left")):  # fmt: skip
        table.add_column(heading, justify=justify)
    for record in records:
        target = "" if record.target is None else f"{record.target:g}"
        table.add_row(record.bench, record.name, record.reference, f"{record.ratio:.3f}", f"± {record.spread:.3f}",
                      target, record.verdict)  # fmt: skip
    console = Console(width=130, highlight=False)
    console.print(table)
    if note:
        console.print(note)


def finish(title: str, records: list[Record], options: argparse.Namespace, note: str = "") -> None:
    """Print the table, and write it and the records where asked."""
    where = options.device if options.device != "cpu" else f"cpu, {options.threads} thread(s)"
    title = f"{title} ({where}{', quick' if options.quick else ''})"
    show(title, records, note)
    if options.json:
        write(options.json, json.dumps([asdict(record) for record in records], indent=1) + "\n")
    if options.markdown:
        write(options.markdown, as_markdown(title, records, note))


def as_markdown(title: str, records: Iterable[Record], note: str) -> str:
    """A section of docs/benchmarks.md."""
    lines = [f"## {title}", "", "| bench | name | against | of | ratio | target | kept |", "| --- " * 7 + "|"]
    for record in records:
        target = "" if record.target is None else f"{record.target:g}"
        spread = f" ± {record.spread:.3f}" if record.spread else ""
        cells = (record.bench, record.name, record.reference, record.unit, f"{record.ratio:.3f}{spread}", target,
                 record.verdict)  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *([note, ""] if note else [])]) + "\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
