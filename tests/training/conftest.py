"""What the training tests share: a tiny base and data on disk, and runs on them."""

from __future__ import annotations

import pytest
from tiny import run_config, write_base, write_data

from superlora_diffusion.training import loop


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with the tiny base and data; nothing is written into it."""
    folder = tmp_path_factory.mktemp("place")
    write_base(folder / "base")
    write_data(folder / "data.npz")
    return folder


@pytest.fixture
def config(place, tmp_path):
    """Makes the config of a run called ``name`` in this test's folder."""

    def make(name="run", **sections):
        return run_config(place, output=str(tmp_path / name), **sections)

    return make


@pytest.fixture
def train(monkeypatch):
    """``train`` on the CPU, silent; ``train.last`` is the newest trainer."""

    def run(config):
        return loop.train(config, "cpu", quiet=True)

    class Recorded(loop.Trainer):
        def __init__(self, *args):
            run.last = self
            super().__init__(*args)

    monkeypatch.setattr(loop, "Trainer", Recorded)
    return run
