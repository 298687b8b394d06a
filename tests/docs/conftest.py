"""One tiny run of the demo for all pages: what a reader has after the first page."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from .shell import run_command


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with the demo's run, trained and scored as the start page does it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_command("superlora-diff train --config demo", folder)
        run_command("superlora-diff eval-is runs/demo", folder)
    return folder


@pytest.fixture
def reader(trained, tmp_path, monkeypatch):
    """A reader's folder: the current one, with runs/demo, and pictures/CLASS/*.png of one's own."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    _write_pictures(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_pictures(folder, classes=("cats", "dogs"), each=15):
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = generator.integers(0, 256, (20, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
