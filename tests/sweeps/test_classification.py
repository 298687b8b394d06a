"""Sweeps of classifiers: raced by the validation loss, scored by accuracy."""

from __future__ import annotations

import csv
import json

import pytest
import yaml
from tiny import write_data
from tiny_vit import vit_values, write_vit

from superlora_diffusion.evaluation.accuracy_records import read_accuracies
from superlora_diffusion.report.collect import collect
from superlora_diffusion.report.compare import make_views
from superlora_diffusion.runs.config import ClassificationSettings
from superlora_diffusion.runs.loading import load_config
from superlora_diffusion.sweeps.config import SweepConfig
from superlora_diffusion.sweeps.estimate import estimate_seconds
from superlora_diffusion.sweeps.folder import SweepFolder
from superlora_diffusion.sweeps.plan import make_jobs, plan_sweep
from superlora_diffusion.sweeps.race import race_key


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a classifier of other classes, data and ``run.yaml``."""
    folder = tmp_path_factory.mktemp("vit-sweep")
    write_vit(folder / "vit", ("a", "b", "c"))
    write_data(folder / "data.npz")
    (folder / "run.yaml").write_text(yaml.safe_dump(vit_values(folder)))
    return folder


def test_cells_are_trained_and_scored_by_accuracy(make_sweep, sweep_here):
    settings = [
        {"name": "lora", "set": {"adapter.variant": "lora"}, "grid": {"adapter.rank": [1, 2]}},
        {"name": "biases", "set": {"method": "bitfit"}},
    ]
    sweep = make_sweep(settings=settings, learning_rate={"steps": 2, "max_tries": 3})
    result = sweep_here(sweep)
    assert (result.failed, result.unfinished) == ({}, []) and len(result.rows) == 3
    with (SweepFolder(sweep.output).path / "results.csv").open(newline="") as file:
        rows = {row["setting"]: row for row in csv.DictReader(file)}
    assert [(name, row["parameters"], row["head_parameters"]) for name, row in rows.items()] == [
        ("lora-rank1", "128", "68"),
        ("lora-rank2", "256", "68"),
        ("biases", "384", "68"),
    ]
    for name, row in rows.items():
        run = SweepFolder(sweep.output).cell(f"{name}-seed0")
        (record,) = read_accuracies(run / "accuracy.json")
        assert float(row["accuracy"]) == record.accuracy and row["fid"] == "" and float(row["val_loss"]) > 0
        race = json.loads(next((SweepFolder(sweep.output).path).rglob("race.json")).read_text())
        assert len(race["tried"]) == 3
    views = make_views(collect([sweep.output]))
    shown = {setting.name: setting.scores["accuracy"].mean for setting in views[0].settings}
    assert shown == {name: float(row["accuracy"]) for name, row in rows.items()}
    assert "N 12 images" in views[0].protocol and len(views) == 1
    again = sweep_here(sweep)
    assert len(again.rows) == 3 and not again.unfinished


def test_without_scores_the_counts_are_the_plans(make_sweep, sweep_here):
    (row,) = sweep_here(make_sweep(score=False)).rows
    assert (row["parameters"], row["head_parameters"], row["accuracy"]) == (256, 68, None)
    assert sweep_here(make_sweep(score=True)).rows[0]["accuracy"] is not None


def test_time_is_estimated(make_sweep):
    sweep: SweepConfig = make_sweep(learning_rate={"steps": 2})
    jobs = make_jobs(sweep, plan_sweep(sweep))
    assert estimate_seconds(sweep, jobs, "cpu", 1) > 0


def test_a_denoisers_race_is_told_as_before_and_a_classifiers_by_all_of_it(make_sweep):
    search = make_sweep(learning_rate={}).learning_rate
    denoiser = load_config("demo")
    assert race_key(denoiser, search) == race_key(
        denoiser.model_copy(update={"classification": ClassificationSettings(label_smoothing=0.1)}), search
    )
    classifier = load_config(make_sweep().config)
    smoothed = load_config(make_sweep().config, ["classification.label_smoothing=0.1"])
    assert race_key(classifier, search) != race_key(smoothed, search)
