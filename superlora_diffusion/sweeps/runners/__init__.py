"""Where a sweep's jobs are done: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import os
from typing import Any

from ...errors import ConfigError, nearest
from ..scheduler import Runner

_OPTIONS = {"local": ("processes",), "ray": ("address", "gpus_per_cell", "retries")}


def check_runner(name: str, **options: Any) -> None:
    """Refuse an unknown runner, and options that are another runner's (None: not given).

    Raises:
        ConfigError: saying which.
    """
    if name not in _OPTIONS:
        raise ConfigError(
            f"--runner {name!r} is unknown.{nearest(name, _OPTIONS)} Accepted: {', '.join(_OPTIONS)}."
        )
    wrong = [
        option for option, value in options.items() if value is not None and option not in _OPTIONS[name]
    ]
    if wrong:
        flags = ", ".join(f"--{option.replace('_', '-')}" for option in wrong)
        other = next(runner for runner, known in _OPTIONS.items() if wrong[0] in known)
        raise ConfigError(
            f"{flags}: for --runner {other}, and this is {name}. Leave it out, or change the runner."
        )


def threads_of(name: str, processes: int | None) -> int:
    """CPU threads of a cell where none are given: the cores shared out, or one under Ray."""
    return 1 if name == "ray" else max(1, (os.cpu_count() or 1) // (processes or 1))


def make_runner(
    name: str,
    threads: int,
    device: str = "auto",
    processes: int | None = None,
    address: str | None = None,
    gpus_per_cell: float | None = None,
    retries: int | None = None,
) -> Runner:
    """The runner by name.

    Raises:
        ConfigError: for an unknown name, options of the other runner, an unknown device, or Ray that is not installed.
        SuperLoRAError: for a cluster that cannot be reached.
    """
    check_runner(name, processes=processes, address=address, gpus_per_cell=gpus_per_cell, retries=retries)
    if name == "ray":
        from .ray_cluster import RayRunner

        return RayRunner(threads, device, address, gpus_per_cell or 0.0, 3 if retries is None else retries)
    from ...devices import resolve_device
    from .local import LocalRunner, share_devices

    resolve_device(device)  # a wrong one is told now, not by every cell
    return LocalRunner(processes or 1, threads, share_devices(device))
