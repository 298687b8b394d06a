"""A tiny sweep on the tiny base, and a runner that does jobs in this process."""

from __future__ import annotations

import pytest
import yaml
from tiny import run_values, write_base, write_data

from superlora_diffusion.progress import Reporter
from superlora_diffusion.sweeps.config import SweepConfig
from superlora_diffusion.sweeps.jobs import do_job
from superlora_diffusion.sweeps.sweep import run_sweep


class InlineRunner:
    """Does each job at once, in the order it comes."""

    def __init__(self, work=do_job):
        self.work, self.ended, self.submitted, self.stopped = work, [], [], False

    def free(self):
        return not self.ended

    def submit(self, job):
        self.submitted.append(job.name)
        self.ended.append(self.work(job))

    def wait(self, seconds):
        ended, self.ended = self.ended, []
        return ended

    def stop(self):
        self.stopped = True

    def close(self):
        pass


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with the tiny base, data and ``run.yaml``; nothing is written into it."""
    folder = tmp_path_factory.mktemp("sweep-place")
    write_base(folder / "base")
    write_data(folder / "data.npz")
    (folder / "run.yaml").write_text(yaml.safe_dump(run_values(folder)))
    return folder


@pytest.fixture
def make_sweep(place, tmp_path):
    def make(**values):
        return SweepConfig(**{"output": str(tmp_path / "sweep"), "config": str(place / "run.yaml"), **values})

    return make


@pytest.fixture
def sweep_here():
    """Runs a sweep in this process."""

    def run(sweep, runner=None):
        return run_sweep(sweep, runner or InlineRunner(), Reporter("sweep", 0, "job", quiet=True))

    return run
