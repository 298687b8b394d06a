"""The runner on one machine: so many processes, each with its share of the threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
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
        self.stopping = False

    def free(self) -> bool:
        return len(self.running) < len(self.pools)

    def submit(self, job: Job) -> None:
        used = {slot for slot, _, _ in self.running.values()}
        slot = next(slot for slot in range(len(self.pools)) if slot not in used)
        placed = replace(job, device=self.devices[slot])
        try:
            future = self._pool(slot).submit(do_job, placed)
        except BrokenProcessPool:  # the worker died while it had nothing to do
            self._drop(slot)
            future = self._pool(slot).submit(do_job, placed)
        self.running[future] = (slot, job, time.perf_counter())

    def _pool(self, slot: int) -> ProcessPoolExecutor:
        if self.pools[slot] is None:
            context, arguments = multiprocessing.get_context("spawn"), (self.threads, os.getpid())
            self.pools[slot] = ProcessPoolExecutor(1, context, initializer=prepare_worker, initargs=arguments)
        return self.pools[slot]

    def _drop(self, slot: int) -> None:
        self.pools[slot].shutdown(wait=False)
        self.pools[slot] = None

    def wait(self, seconds: float) -> list[Outcome]:
        ended, _ = wait(self.running, timeout=seconds, return_when=FIRST_COMPLETED)
        return [self._outcome(future) for future in ended]

    def _outcome(self, future: Future) -> Outcome:
        slot, job, began = self.running.pop(future)
        seconds = round(time.perf_counter() - began, 1)
        error = future.exception()
        if error is None:
            outcome = future.result()
            if (outcome.error or "").startswith("Traceback"):  # the process may be harmed, a GPU's state say
                self._drop(slot)
            return outcome
        self._drop(slot)
        if self.stopping or isinstance(error, KeyboardInterrupt):
            return Outcome(job.name, "interrupted", seconds)
        text = "the worker process died (killed, or out of memory). Fewer processes need less memory."
        return Outcome(
            job.name, "failed", seconds, text if isinstance(error, BrokenProcessPool) else repr(error)
        )

    def stop(self) -> None:
        """Send each busy worker the signal that training answers by saving."""
        self.stopping = True
        for slot, _, _ in self.running.values():
            self._signal(slot, signal.SIGINT)

    def _signal(self, slot: int, number: int) -> None:
        for process in self._processes(slot):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def _processes(self, slot: int) -> list[int]:
        pool = self.pools[slot]
        return [] if pool is None else list(pool._processes or ())

    def close(self) -> None:
        busy = {slot for slot, _, _ in self.running.values()}
        for slot, pool in enumerate(self.pools):
            if pool is not None:
                processes = self._processes(slot)
                pool.shutdown(wait=slot not in busy, cancel_futures=True)
                for process in processes if slot in busy else ():
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGTERM)


def share_devices(device: str) -> tuple[str, ...]:
    """Devices to give out in turn: every GPU for auto or cuda, else the one that was named."""
    if device not in ("auto", "cuda"):
        return (device,)
    import torch

    count = torch.cuda.device_count()
    return tuple(f"cuda:{number}" for number in range(count)) or (device,)


def prepare_worker(threads: int, parent: int) -> None:
    """Begin a worker process: leave the terminal's Ctrl-C to the parent, end with the parent, limit the threads."""
    try:
        os.setsid()
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        warnings.simplefilter("ignore")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)
    except KeyboardInterrupt:  # stopped before it began
        os._exit(130)


def _end_with(parent: int) -> None:
    """Once the parent is gone, ask the work to save and end, then insist."""
    while os.getppid() == parent:
        time.sleep(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        os.kill(os.getpid(), number)
        time.sleep(30)
