"""``superlora-diff sweep``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import AsJson, Device, Quiet, Verbose, print_json, set_verbosity
from .completion import sweep_names

_HELP = """Train and score many settings, and write one table of quality against trained parameters.

The same command again goes on where it stopped: finished cells are skipped, failed ones tried again. Every
cell is an ordinary run folder. The tables (results and summary, CSV and Parquet) are written after every cell.
Values of the run config behind the options, as key.path=value, hold for all cells.

Examples:

  superlora-diff sweep --config sweeps/paper-small --dry-run

  superlora-diff sweep --config sweeps/paper-small --processes 2

  superlora-diff sweep --config sweeps/paper-small --output runs/short train.steps=100

  superlora-diff sweep --config mine.yaml --runner ray --address auto --gpus-per-cell 0.5
"""


def register(app: typer.Typer) -> None:
    app.command("sweep", help=_HELP)(sweep)


def sweep(
    config: Annotated[
        str,
        typer.Option(
            "--config",
            "-c",
            help="The sweep's YAML file, or a packaged sweep's name.",
            autocompletion=sweep_names,
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", show_default=False)
    ] = None,
    output: Annotated[str | None, typer.Option(help="The sweep's folder, in place of the file's.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Cells at once under local; 1 by default.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads of each cell; the cores shared out, or 1 under ray."),
    ] = None,
    runner: Annotated[str, typer.Option(help="local, or ray for a Ray cluster.")] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster: auto, HOST:PORT or ray://HOST:PORT; a new local one by default."),
    ] = None,
    gpus_per_cell: Annotated[
        float | None, typer.Option(min=0, help="GPUs of each cell under ray, such as 0.25; none by default.")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(min=0, help="How often ray repeats a cell whose node died; 3 by default.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the cells, their counts and an estimate of time; run nothing."),
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    from ..sweeps.config import load_sweep
    from ..sweeps.runners import check_runner, make_runner, threads_of

    resolved = load_sweep(config, overrides or [], output=output)
    set_verbosity(verbose)
    options = {"processes": processes, "address": address, "gpus_per_cell": gpus_per_cell, "retries": retries}
    check_runner(runner, **options)
    threads = threads or threads_of(runner, processes)
    if dry_run:
        _print_plan(resolved, device, processes or 1, threads, as_json)
        return
    from ..progress import Reporter
    from ..sweeps.sweep import run_sweep

    with Reporter("sweep", 0, "job", quiet=quiet) as reporter:
        result = run_sweep(resolved, make_runner(runner, threads, device, **options), reporter)
    _print_result(resolved.output, result, as_json)
    if result.unfinished:
        raise typer.Exit(128 + (result.signal or 2))
    if result.failed:
        raise typer.Exit(1)


def _print_result(output: str, result: Any, as_json: bool) -> None:
    if as_json:
        print_json(
            {"output": output, "rows": result.rows, "failed": result.failed, "unfinished": result.unfinished}
        )
        return
    for name, error in result.failed.items():
        typer.echo(f"failed: {name}: {error}", err=True)
    if result.unfinished:
        typer.echo(
            f"{len(result.unfinished)} cells are not finished. Run the same command again to go on.", err=True
        )
    typer.echo(
        f"{len(result.rows)} finished runs: {Path(output) / 'results.csv'} (a row a setting: summary.csv)"
    )
    typer.echo(f"Next: superlora-diff report {shlex.quote(output)} --out report.html")


def _print_plan(resolved: Any, device: str, processes: int, threads: int, as_json: bool) -> None:
    from ..sweeps.clock import clock
    from ..sweeps.estimate import estimate_seconds
    from ..sweeps.plan import make_jobs, plan_sweep
    from ..sweeps.sweep import is_done

    planned = plan_sweep(resolved)
    jobs = [job for job in make_jobs(resolved, planned) if not is_done(job)]
    at_once = max(1, min(processes, len(jobs)))
    seconds = estimate_seconds(resolved, jobs, device, threads) / at_once
    waiting = {job.name for job in jobs}
    cells = [
        {
            "cell": item.cell.name,
            "parameters": item.parameters,
            "learning_rate": None if resolved.learning_rate else item.cell.config.learning_rate,
            "finished": item.error is None and item.cell.name not in waiting,
            "error": item.error,
        }
        for item in planned
    ]
    if as_json:
        print_json({"cells": cells, "jobs": len(jobs), "estimated_seconds": round(seconds)})
        return
    from rich.console import Console

    from ..sweeps.table import cells_table

    console = Console()
    console.print(cells_table(cells))
    typer.echo(f"{len(jobs)} jobs to do, about {clock(seconds)} with {at_once} at once (measured just now).")
