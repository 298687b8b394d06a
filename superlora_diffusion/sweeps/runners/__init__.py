"""Where a sweep's jobs are done: processes of this machine, or a Ray cluster."""

from __future__ import annotations

from ...errors import ConfigError, nearest
from ..scheduler import Runner

RUNNERS = ("local", "ray")


def make_runner(
    name: str,
    processes: int = 1,
    threads: int = 1,
    device: str = "auto",
    address: str | None = None,
    gpus_per_cell: float = 0,
    retries: int = 3,
) -> Runner:
    """The runner by name.

    Raises:
        ConfigError: for an unknown name, options of the other runner, or Ray that is not installed.
    """
    if name not in RUNNERS:
        raise ConfigError(
            f"--runner {name!r} is unknown.{nearest(name, RUNNERS)} Accepted: {', '.join(RUNNERS)}."
        )
    if name == "local":
        if address is not None or gpus_per_cell:
            raise ConfigError(
                "--address and --gpus-per-cell belong to --runner ray; leave them out, or add it."
            )
        from .local import LocalRunner, share_devices

        return LocalRunner(processes, threads, share_devices(device))
    from .ray_cluster import RayRunner

    return RayRunner(threads, device, address, gpus_per_cell, retries)
