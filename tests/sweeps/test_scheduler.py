"""The loop over jobs: order, dependencies, failures, stopping, under random runners."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from superlora_diffusion.sweeps.jobs import Job, Outcome
from superlora_diffusion.sweeps.scheduler import run_jobs


def job(name, *needs):
    return Job(name, "cell", {"output": name}, Path("race"), None, Path("bases"), needs=needs)


class RandomRunner:
    """So many places; jobs end in any order; those named fail."""

    def __init__(self, places, seed, failing=()):
        self.places, self.random, self.failing = places, random.Random(seed), set(failing)
        self.running, self.most, self.stopped = [], 0, 0

    def free(self):
        return len(self.running) < self.places

    def submit(self, job):
        assert self.free()
        self.running.append(job.name)
        self.most = max(self.most, len(self.running))

    def wait(self, seconds):
        ended = [name for name in self.running if self.random.random() < 0.4]
        self.running = [name for name in self.running if name not in ended]
        status = "interrupted" if self.stopped else "finished"
        failed = self.failing.intersection(ended)
        return [
            Outcome(name, "failed", error="boom") if name in failed else Outcome(name, status)
            for name in ended
        ]

    def stop(self):
        self.stopped += 1

    def close(self):
        pass


@pytest.mark.parametrize("seed", range(8))
def test_every_job_ends_once_after_what_it_needs(seed):
    jobs = [job(f"race{i}") for i in range(4)] + [job(f"cell{i}", f"race{i % 4}") for i in range(12)]
    random.Random(seed).shuffle(jobs)
    runner, ends = RandomRunner(3, seed), []
    ended = run_jobs(jobs, runner, on_end=lambda done, outcome: ends.append(done.name))
    assert sorted(ends) == sorted(job.name for job in jobs) and set(ended) == set(ends)
    assert all(outcome.status == "finished" for outcome in ended.values())
    for index in range(12):
        assert ends.index(f"race{index % 4}") < ends.index(f"cell{index}")
    assert runner.most == 3


def test_a_failure_fails_what_needs_it_and_the_rest_goes_on():
    jobs = [job("race-a"), job("a", "race-a"), job("race-b"), job("b", "race-b")]
    runner = RandomRunner(1, 0, failing={"race-a"})
    ended = run_jobs(jobs, runner)
    assert {name: outcome.status for name, outcome in ended.items()} == {
        "race-a": "failed", "a": "failed", "race-b": "finished", "b": "finished",
    }  # fmt: skip
    assert "race-a" in ended["a"].error and "boom" in ended["a"].error


def test_once_stopped_nothing_more_starts_and_what_runs_is_asked_once():
    starts, stop = [], []
    runner = RandomRunner(2, 3)
    jobs = [job(str(index)) for index in range(9)]

    def on_end(job, outcome):
        stop.append(True)

    ended = run_jobs(jobs, runner, lambda job: starts.append(job.name), on_end, lambda: bool(stop))
    assert runner.stopped == 1 and 1 <= len(starts) < 9
    assert set(ended) == set(starts)  # each that began has an outcome
