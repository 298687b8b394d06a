"""The runner on one machine: so many processes, each with its share of the threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

from ..jobs import Job, Outcome, do_job


class LocalRunner:
    """Worker processes of their own, one a slot, so that one that dies takes nothing else with it."""

    def __init__(self, processes: int, threads: int, devices: tuple[str, ...] = ("auto",)) -> None:
        """Args: number of worker processes, threads of each, devices given out in turn."""
        self.threads = threads
        self.devices = [devices[slot % len(devices)] for slot in range(processes)]
        self.pools: list[ProcessPoolExecutor | None] = [None] * processes
        self.running: dict[Future, tuple[int, Job, float]] = {}

    def free(self) -> bool:
        return len(self.running) < len(self.pools)

    def submit(self, job: Job) -> None:
        used = {slot for slot, _, _ in self.running.values()}
        slot = next(slot for slot in range(len(self.pools)) if slot not in used)
        if self.pools[slot] is None:
            self.pools[slot] = ProcessPoolExecutor(
                1,
                multiprocessing.get_context("spawn"),
                initializer=_prepare_worker,
                initargs=(self.threads, os.getpid()),
            )
        placed = replace(job, device=self.devices[slot])
        self.running[self.pools[slot].submit(do_job, placed)] = (slot, job, time.perf_counter())

    def wait(self, seconds: float) -> list[Outcome]:
        ended, _ = wait(self.running, timeout=seconds, return_when=FIRST_COMPLETED)
        return [self._outcome(future) for future in ended]

    def _outcome(self, future: Future) -> Outcome:
        slot, job, began = self.running.pop(future)
        try:
            return future.result()
        except BrokenProcessPool:
            self.pools[slot].shutdown(wait=False)
            self.pools[slot] = None
            error = "the worker process died (killed, or out of memory). Fewer processes need less memory."
            return Outcome(job.name, "failed", round(time.perf_counter() - began, 1), error)

    def stop(self) -> None:
        """Send each busy worker the signal that training answers by saving."""
        for slot, _, _ in self.running.values():
            for process in self._processes(slot):
                os.kill(process, signal.SIGINT)

    def _processes(self, slot: int) -> list[int]:
        pool = self.pools[slot]
        return [] if pool is None else list(pool._processes or ())

    def close(self) -> None:
        for slot, pool in enumerate(self.pools):
            if pool is not None:
                busy = [pid for pid in self._processes(slot)] if self.running else []
                pool.shutdown(wait=not busy, cancel_futures=True)
                for pid in busy:
                    os.kill(pid, signal.SIGTERM)


def share_devices(device: str) -> tuple[str, ...]:
    """Devices to give out in turn: every GPU for auto or cuda, else the one that was named."""
    if device not in ("auto", "cuda"):
        return (device,)
    import torch

    count = torch.cuda.device_count()
    return tuple(f"cuda:{number}" for number in range(count)) or (device,)


def _prepare_worker(threads: int, parent: int) -> None:
    """Limit the threads, leave the terminal's Ctrl-C to the parent, and end with the parent."""
    import torch

    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.setsid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
    os._exit(1)
