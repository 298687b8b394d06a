"""Values of YAML that people write and that must not turn into something else."""

from __future__ import annotations

import pytest

from superlora_diffusion.runs.loading import load_config


@pytest.mark.parametrize("name", ["2026-01-15", "2026-13-45", "1:30"])
def test_names_that_look_like_dates_or_times_stay_names(name):
    assert load_config("demo", [f"output={name}"]).output == name


def test_numbers_stay_numbers():
    config = load_config("demo", ["train.steps=1_000", "train.learning_rate=1e-3", "seed=0"])
    assert (config.train.steps, config.train.learning_rate, config.seed) == (1000, 1e-3, 0)
