"""Measure the validation loss against the learning rate: settings far apart, each rule of adapter.step, one curve each.

Every run is a line of rates.csv in the output folder and an ordinary run folder in its runs/; a diverged run is
recorded as inf. Lines that are there are not run again, so that the same command goes on where it was interrupted, and
other rates, settings, steps or seeds come to them. At the end, and with --summary alone, curves.png and summary.md say
what each setting's own best is, and which single rate of a rule is the least bad for all its settings.

Examples:
  python scripts/measure_rates.py --out runs/rates --steps 600 --processes 2
  python scripts/measure_rates.py --out runs/rates --rules gain --low 3e-3 --high 3e-2 --factor sqrt2 --seeds 0,1,2
  python scripts/measure_rates.py --out runs/rates adapter.targets=[to_q,to_v] data.limit=8000
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rates_summary import COLUMNS, Row, summarise

from superlora_diffusion.errors import ConfigError, DivergedError, RunError, SuperLoRAError
from superlora_diffusion.files import write_json, write_text
from superlora_diffusion.progress import Reporter
from superlora_diffusion.runs.loading import load_config

EVERY_LAYER = "adapter.targets=['**', conv_norm_out, 'conv_out:bias']"
SETTINGS = {
    "dense": ["adapter.variant=dense"],
    "lora-r1": ["adapter.variant=lora", "adapter.rank=1"],
    "lora-r8": ["adapter.variant=lora", "adapter.rank=8"],
    "group_lora": ["adapter.variant=group_lora"],
    "lorta-r2": ["adapter.variant=lorta", "adapter.rank=2"],
    "lorta-r8": ["adapter.variant=lorta", "adapter.rank=8"],
    "lotr-r4": ["adapter.variant=lotr", "adapter.rank=4"],
    "lokr": ["adapter.variant=lokr"],
    "one-vector": [
        "adapter.variant=dense", "adapter.groups=1", "adapter.projection=block_hadamard", "adapter.ratio=0.016"
    ],
    "lonkr": ["adapter.variant=lonkr"],
    "lora-r8-all": ["adapter.variant=lora", "adapter.rank=8", "adapter.targets=['**']"],
    "lorta-r8-all": ["adapter.variant=lorta", "adapter.rank=8", "adapter.targets=['**']"],
    "lorta-g12-r3-all": ["adapter.variant=lorta", "adapter.rank=3", "adapter.groups=12", "adapter.targets=['**']"],
    "spectral-d8": ["adapter.variant=spectral", "adapter.directions=8"],
    "spectral-all-d8": ["adapter.variant=spectral", EVERY_LAYER, "adapter.directions=8"],
    "spectral-all-d32": ["adapter.variant=spectral", EVERY_LAYER, "adapter.directions=32"],
}  # fmt: skip
RULES = ("plain", "rms", "gain")


class Work(NamedTuple):
    """One run that is still to be made."""

    row: Row
    """Its line, the loss not known yet."""
    folder: str
    config: str
    overrides: tuple[str, ...]
    device: str


def main() -> int:
    options = parse_options()
    out, stopped, failed = Path(options.out), False, False
    try:
        if not options.summary:
            check_protocol(out, options)
            stopped, failed = run_all(list(plan_work(options, out)), out / "rates.csv", options)
        rows = [row for row in read_rows(out / "rates.csv") if row.steps == options.steps]
        if not rows and not stopped:
            raise RunError(
                f"{out / 'rates.csv'} has no runs of {options.steps} steps; say --steps as they had it."
            )
        if rows:
            print(summarise(rows, out))
    except SuperLoRAError as error:
        print(f"{error.label}: {error}", file=sys.stderr)
        return error.exit_code
    if stopped:
        print("interrupted: the same command goes on from here.", file=sys.stderr)
    return 130 if stopped else int(failed)


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", required=True, help="folder of rates.csv, the runs, curves.png and summary.md"
    )
    parser.add_argument("--config", default="demo", help="config that every run starts from")
    parser.add_argument("--settings", default=",".join(SETTINGS), help=f"of: {', '.join(SETTINGS)}")
    parser.add_argument("--rules", default=",".join(RULES), help=f"of: {', '.join(RULES)}")
    parser.add_argument("--low", type=float, default=1e-3, help="lowest learning rate (default: 1e-3)")
    parser.add_argument("--high", type=float, default=1.0, help="highest learning rate (default: 1)")
    parser.add_argument(
        "--factor", default="2", help="from one rate to the next: 2, sqrt10, ... (default: 2)"
    )
    parser.add_argument("--steps", type=int, default=600, help="optimiser steps of each run (default: 600)")
    parser.add_argument("--seeds", default="0", help="seeds of the runs: 0,1,2 (default: 0)")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run (default: 1)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--summary", action="store_true", help="run nothing; sum up the runs of --steps")
    parser.add_argument("overrides", nargs="*", help="key.path=value for every run")
    return parser.parse_intermixed_args(arguments)


# --- what is to be run ---


def rates_between(low: float, high: float, factor: str) -> list[float]:
    """low, low * factor, ... up to high, to three digits, so that they are the same whenever they are made.

    Raises:
        ConfigError: for a factor or bounds of which there is no such list.
    """
    try:
        step = math.sqrt(float(factor[4:])) if factor.startswith("sqrt") else float(factor)
    except ValueError:
        step = math.nan
    if not (1.01 <= step < math.inf):
        raise ConfigError(
            f"got --factor {factor}: a number of at least 1.01, or sqrt10 and the like, is accepted."
        )
    if not 0 < low <= high < math.inf:
        raise ConfigError(f"got --low {low:g} and --high {high:g}: 0 < low <= high is accepted.")
    count = math.floor(math.log(high / low) / math.log(step) + 1e-6) + 1
    return [float(f"{low * step**k:.3g}") for k in range(count)]


def plan_work(options: argparse.Namespace, out: Path) -> Iterable[Work]:
    """The runs that rates.csv does not have, the settings of one rate after the other."""
    names, rules = chosen(options.settings, SETTINGS, "--settings"), chosen(options.rules, RULES, "--rules")
    rates = rates_between(options.low, options.high, options.factor)
    done = {row[:-1] for row in read_rows(out / "rates.csv")}
    counts = {name: count(options.config, [*options.overrides, *SETTINGS[name]]) for name in names}
    for seed in numbers(options.seeds):
        for rule in rules:
            for rate in rates:
                for name in names:
                    row = Row(name, rule, counts[name], rate, options.steps, seed, math.nan)
                    if row[:-1] not in done:
                        folder = out / "runs" / f"{name}-{rule}-{rate:g}-{options.steps}-s{seed}"
                        overrides = (*options.overrides, *overrides_of(row))
                        yield Work(row, str(folder), options.config, overrides, options.device)


def overrides_of(row: Row) -> list[str]:
    """What makes the run of a line. It comes behind the overrides that all runs have: a setting's own targets stay."""
    warmup = min(50, row.steps // 5)
    return [
        *SETTINGS[row.setting],
        f"adapter.step={row.step}",
        f"seed={row.seed}",
        f"train.learning_rate={row.learning_rate!r}",
        f"train.steps={row.steps}",
        f"train.warmup_steps={warmup}",
        f"validation.every={row.steps}",
        f"checkpoint.every={row.steps}",
        "preview.every=null",
        "evaluation.every=null",
        "log.every=50",
    ]


def chosen(text: str, known: Iterable[str], option: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise ConfigError(f"got {option} {name!r}. Accepted: {', '.join(known)}.")
    return names


def numbers(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ConfigError(f"got --seeds {text!r}: whole numbers with commas between are accepted.") from None


def count(config: str, overrides: list[str]) -> int:
    """How many numbers a setting trains."""
    from superlora_diffusion.runs.counting import count_run

    return count_run(load_config(config, overrides))[1].count


def check_protocol(out: Path, options: argparse.Namespace) -> None:
    """Note what the lines do not say, and refuse to mix runs that differ in it.

    Raises:
        ConfigError: for a folder whose runs were made from another config, or with other overrides.
    """
    path, now = out / "protocol.json", {"config": options.config, "overrides": options.overrides}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_json(path, now)
        return
    if before != now:
        text = f"{out} has runs of {before}, but this command says {now}; give the same, or another --out."
        raise ConfigError(text)


# --- running ---


def run_all(work: Sequence[Work], table: Path, options: argparse.Namespace) -> tuple[bool, bool]:
    """Make the runs, a line of the table each, so many at a time.

    Returns:
        whether it was interrupted, and whether a run failed otherwise than by diverging.
    """
    from superlora_diffusion.sweeps.runners.local import prepare_worker
    from superlora_diffusion.training.signals import stop_on_signals

    waiting, running, failed, asked = list(work), {}, False, False
    context = multiprocessing.get_context("spawn")
    arguments = (options.threads, os.getpid())
    processes = max(1, min(options.processes, len(work)))
    with (
        stop_on_signals() as stop,
        ProcessPoolExecutor(processes, context, initializer=prepare_worker, initargs=arguments) as pool,
        Reporter("rates", len(work), "run") as reporter,
    ):
        while waiting or running:
            if stop and not asked:
                asked = True
                waiting.clear()
                for process in list(pool._processes):  # training answers by saving
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGINT)
            while waiting and len(running) < processes:  # none waits in the pool, where no signal reaches it
                one = waiting.pop(0)
                running[pool.submit(do, one)] = one
            ended, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in ended:
                failed |= not note(future, running.pop(future), table, reporter, asked)
    return asked, failed


def note(future: Future, one: Work, table: Path, reporter: Reporter, asked: bool) -> bool:
    """Write the line of a run that ended; False for one that failed."""
    name = Path(one.folder).name
    error = future.exception()
    if error is None:
        append_row(table, one.row._replace(val_loss=future.result()))
        reporter.advance()
        reporter.say(f"{name}: {future.result():.5f} ({reporter.done} of {reporter.total})")
        return True
    if asked:
        return True  # it was saved, or is run again
    reporter.say(f"{name}: {type(error).__name__}: {error}")
    return False


def do(one: Work) -> float:
    """The validation loss of one run, inf where it diverged; in a worker process."""
    from superlora_diffusion.sweeps.results import last_validation_loss
    from superlora_diffusion.training.loop import train

    config = load_config(one.config, list(one.overrides), output=one.folder)
    try:
        train(config, device=None if one.device == "auto" else one.device, quiet=True)
    except DivergedError:
        return math.inf
    loss = last_validation_loss(Path(one.folder))
    if loss is None:
        raise ConfigError(f"{one.folder} has no validation loss; validation.images must be at least 1.")
    return loss if math.isfinite(loss) else math.inf


# --- the table ---


def read_rows(table: Path) -> list[Row]:
    """The lines of a table; [] where there is none. A line that was cut off is left out: its run is made again."""
    if not table.is_file():
        return []
    rows = []
    with table.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            with suppress(TypeError, ValueError, KeyError):
                rows.append(Row(*(kind(line[name]) for name, kind in COLUMNS.items())))
    return rows


def append_row(table: Path, row: Row) -> None:
    """Add a line, whole, after what was cut off before."""
    before = table.read_text(encoding="utf-8") if table.is_file() else ",".join(COLUMNS) + "\n"
    if not table.is_file():
        write_text(table, before)
    with table.open("a", encoding="utf-8") as file:
        file.write(("" if before.endswith("\n") else "\n") + ",".join(map(str, row)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
