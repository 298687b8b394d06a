"""Time left and estimates: what more work adds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from superlora_diffusion.sweeps.cells import list_cells
from superlora_diffusion.sweeps.clock import clock, seconds_left
from superlora_diffusion.sweeps.config import LearningRateSearch
from superlora_diffusion.sweeps.estimate import cost, estimate_seconds
from superlora_diffusion.sweeps.jobs import Job
from superlora_diffusion.sweeps.plan import make_jobs, plan_sweep


def test_clock():
    assert [clock(seconds) for seconds in (0, 61.9, 3600, 36061)] == ["0:00", "1:01", "1:00:00", "10:01:01"]


def test_time_left_goes_by_kind_and_by_how_many_run_at_once():
    ended = [("race", 10.0), ("cell", 100.0), ("cell", 200.0), ("cell", 0.0)]
    assert seconds_left(["cell", "cell", "race"], ended, 1) == 310
    assert seconds_left(["cell", "cell", "race"], ended, 2) == 155
    assert seconds_left(["cell"], ended, 8) == 150
    assert seconds_left(["cell"], [("race", 10.0)], 1) == 10
    assert seconds_left(["cell"], [], 1) is None


def test_an_estimate_leaves_the_process_its_threads(make_sweep):
    sweep = make_sweep(score=False)
    jobs, before = make_jobs(sweep, plan_sweep(sweep)), torch.get_num_threads()
    assert estimate_seconds(sweep, jobs, "cpu", before + 1) > 0
    assert torch.get_num_threads() == before


def test_an_estimate_counts_what_a_job_does(make_sweep):
    def of(score=True, kind="cell", search=None, **values):
        (cell,) = list_cells(make_sweep(set=values))
        job = Job("x", kind, {}, Path("race"), search, Path("bases"))
        return cost(job, cell.config, score, 1.0, 0.01)

    # six steps; validation of 10 images at steps 3 and 6; 8 images of two sampling steps with guidance
    assert of(score=False) == pytest.approx(6 + 2 * 0.1) and of() == pytest.approx(6.2 + 8 * 2 * 2 * 0.01)
    assert of(score=False, **{"train.steps": 12}) == pytest.approx(12 + 4 * 0.1)
    assert of(score=False, **{"train.gradient_accumulation": 3}) == pytest.approx(18.2)
    assert of(**{"sampling.guidance_scale": 1}) == pytest.approx(6.2 + 8 * 2 * 0.01)
    assert of(score=False, **{"preview.every": 4}) == pytest.approx(6.2 + 2 * 40 * 4 * 0.01)
    assert of(kind="race", search=LearningRateSearch(steps=5)) == pytest.approx(4 * (5 + 0.1) + 0.1)
