"""The runner on a Ray cluster: every job a Ray task, repeated elsewhere when its node dies.

All nodes must see the sweep's folder and the data at the same paths (shared storage) and have this package
installed: results go into the run folders, as they do under the local runner.
"""

from __future__ import annotations

import os
import time
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import ConfigError, SuperLoRAError
from ..jobs import Job, Outcome, do_job


class RayRunner:
    """Jobs as Ray tasks on a running cluster, or on a local one started for the sweep."""

    def __init__(
        self, threads: int, device: str, address: str | None, gpus_per_cell: float, retries: int
    ) -> None:
        """Args: CPUs of each task, its device, the cluster's address (None starts a local one), GPUs, retries.

        Raises:
            ConfigError: if Ray is not installed.
            SuperLoRAError: if the cluster cannot be reached, or has no room for a single task.
        """
        self.ray = _import_ray()
        self.threads, self.device, self.gpus = threads, device, gpus_per_cell
        _connect(self.ray, address)
        # A repeated task goes on from the last checkpoint in its run folder.
        options = {"num_cpus": threads, "num_gpus": gpus_per_cell, "max_retries": retries}
        self.task = self.ray.remote(**options)(_do_remotely)
        self.running: dict[Any, tuple[Job, float]] = {}
        nodes = self._nodes()
        if count_places(nodes, threads, gpus_per_cell) < 1:
            self.close()
            there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
            raise SuperLoRAError(
                f"a cell wants {threads} CPUs and {gpus_per_cell:g} GPUs, and no node of the cluster has them "
                f"({there}). Ask for less with --threads and --gpus-per-cell."
            )

        if gpus_per_cell == 0 and any(node.get("GPU") for node in nodes):
            warnings.warn("the cluster has GPUs, but cells use none; give --gpus-per-cell.", stacklevel=2)

    def _nodes(self) -> list[dict[str, float]]:
        """Resources of the nodes that are alive."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def free(self) -> bool:
        return len(self.running) < max(1, count_places(self._nodes(), self.threads, self.gpus))

    def submit(self, job: Job) -> None:
        reference = self.task.remote(job, self.threads, self.device, os.getcwd())
        self.running[reference] = (job, time.perf_counter())

    def wait(self, seconds: float) -> list[Outcome]:
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        return [self._outcome(reference) for reference in ready]

    def _outcome(self, reference: Any) -> Outcome:
        job, began = self.running.pop(reference)
        seconds = round(time.perf_counter() - began, 1)
        errors = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except errors.TaskCancelledError:
            return Outcome(job.name, "interrupted", seconds)
        except errors.RayTaskError as error:  # raised on the node, where such a thing is not repeated
            return Outcome(job.name, "failed", seconds, str(error).strip())
        except errors.RayError as error:
            text = str(error).strip().splitlines()[0]
            return Outcome(job.name, "failed", seconds, f"Ray gave up after its retries: {text}")

    def stop(self) -> None:
        """Interrupt the running tasks; training answers by saving."""
        for reference in self.running:
            self.ray.cancel(reference, force=False)

    def close(self) -> None:
        self.ray.shutdown()


def count_places(nodes: list[dict[str, float]], cpus: float, gpus: float) -> int:
    """How many tasks of so many CPUs and GPUs the nodes hold at once; a GPU can be shared by fractions."""

    def places(node: dict[str, float]) -> int:
        wanted = ((cpus, node.get("CPU", 0.0)), (gpus, node.get("GPU", 0.0)))
        return min(int(Fraction(str(there)) / Fraction(str(each))) for each, there in wanted if each)

    return sum(map(places, nodes))


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError(
            f"--runner ray needs Ray, which is not installed ({error}): pip install 'superlora-diffusion[ray]'."
        ) from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    place = ray.__file__
    if address is None and " " in place:  # Ray cuts its own commands at spaces, and its nodes never come up
        raise ConfigError(
            f"Ray cannot start a cluster from a path with a space, and it is installed in {place}. "
            "Use an environment without a space in its path, or give --address."
        )
    own = {"include_dashboard": False} if address is None else {}
    try:
        # "local" really starts one; without a word Ray would join whatever cluster this machine remembers.
        ray.init(address=address or "local", log_to_driver=False, logging_level="warning", **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SuperLoRAError(
            f"no Ray cluster at {address or 'this machine'}: {text}. Start one with 'ray start --head', or leave "
            "--address out for a local one."
        ) from error


def _do_remotely(job: Job, threads: int, device: str, folder: str) -> Outcome:
    """One job in a process of the cluster."""
    from dataclasses import replace

    import torch

    torch.set_num_threads(threads)
    if not Path(folder).is_dir():
        return Outcome(
            job.name, "failed", error=f"{folder} is not there on this node; the nodes must share it."
        )
    os.chdir(folder)
    return do_job(replace(job, device=device))
