"""Whole sweeps on the tiny base: skipping, failing, stopping and going on, tables, scores, both CLI and library."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typed import call

from superlora_diffusion.errors import DataError, RunError
from superlora_diffusion.evaluation.records import read_scores
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.models.storage import load_base
from superlora_diffusion.runs.folder import RunFolder
from superlora_diffusion.sweeps.folder import SweepFolder
from superlora_diffusion.sweeps.jobs import Outcome, do_job
from superlora_diffusion.sweeps.runners.local import LocalRunner
from superlora_diffusion.sweeps.table import COLUMNS

from .conftest import InlineRunner


def table(folder):
    with (Path(folder) / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_cell_is_an_ordinary_finished_run_with_its_row(make_sweep, sweep_here):
    sweep = make_sweep(grid={"adapter.rank": [1, 2]}, seeds=[0, 1])
    result = sweep_here(sweep)
    assert not result.failed and not result.unfinished and len(result.rows) == 4
    rows = table(sweep.output)
    assert list(rows[0])[: len(COLUMNS)] == list(COLUMNS)
    for row in rows:
        folder = RunFolder(SweepFolder(sweep.output).cell(f"{row['setting']}-seed{row['seed']}"))
        config = folder.read_config()
        assert folder.is_finished(config) and config.seed == int(row["seed"]) == config.adapter.seed
        own = read_scores(folder.scores)[-1]
        assert float(row["fid"]) == own.fid > 0 and float(row["is_distance"]) == own.is_distance
        assert own.parameters == int(row["parameters"]) == 256 * config.adapter.rank
        lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
        assert float(row["val_loss"]) == [x["validation_loss"] for x in lines if "validation_loss" in x][-1]
    assert len({row["val_loss"] for row in rows}) == 4  # seeds and ranks really differ


def test_the_base_is_drawn_once_for_all_cells(make_sweep, sweep_here, monkeypatch):
    from superlora_diffusion.evaluation import evaluate

    drawn = []
    real = evaluate.score_model
    monkeypatch.setattr(evaluate, "score_model", lambda *given: drawn.append(real(*given)) or drawn[-1])
    sweep_here(make_sweep(grid={"adapter.rank": [1, 2]}))
    assert len(drawn) == 3 and len({scores.fid for scores in drawn}) == 3  # the base and two adapters


def test_a_second_call_does_nothing_and_new_cells_are_added(make_sweep, sweep_here):
    sweep_here(make_sweep(grid={"adapter.rank": [1]}))
    first = table(make_sweep().output)
    runner = InlineRunner()
    sweep_here(make_sweep(grid={"adapter.rank": [1]}), runner)
    assert runner.submitted == [] and table(make_sweep().output) == first
    sweep_here(make_sweep(grid={"adapter.rank": [1, 2]}), runner)
    assert runner.submitted == ["rank2-seed0"]
    assert table(make_sweep().output)[0] == first[0] and len(table(make_sweep().output)) == 2


def test_runs_trained_without_scores_are_scored_later_and_not_trained_again(make_sweep, sweep_here):
    sweep = make_sweep(score=False)
    sweep_here(sweep)
    folder = RunFolder(SweepFolder(sweep.output).cell("run-seed0"))
    before = folder.metrics.read_bytes()
    assert table(sweep.output)[0]["fid"] == "" and not folder.scores.is_file()
    sweep_here(make_sweep(score=True))
    assert float(table(sweep.output)[0]["fid"]) > 0 and folder.metrics.read_bytes() == before


def test_cells_are_scored_anew_when_the_scoring_changes_and_never_trained_anew(make_sweep, sweep_here):
    sweep_here(make_sweep())
    folder = RunFolder(SweepFolder(make_sweep().output).cell("run-seed0"))
    before, first = folder.metrics.read_bytes(), table(make_sweep().output)
    changed = make_sweep(set={"evaluation.images": 6, "sampling.steps": 3})
    result = sweep_here(changed)
    assert not result.failed and folder.metrics.read_bytes() == before
    assert table(changed.output)[0]["fid"] != first[0]["fid"]
    assert (folder.read_config().evaluation.images, folder.read_config().sampling.steps) == (6, 3)
    runner = InlineRunner()
    sweep_here(changed, runner)
    assert runner.submitted == []


def test_a_cell_whose_training_was_changed_is_refused_and_its_old_result_is_not_shown(make_sweep, sweep_here):
    sweep_here(make_sweep(score=False))
    result = sweep_here(make_sweep(score=False, set={"train.steps": 7}))
    assert "train.steps: 6 -> 7" in result.failed["run-seed0"] and result.rows == []


def test_the_row_is_of_the_scores_that_the_config_asks_for(make_sweep, sweep_here):
    for images in (8, 6, 8):
        sweep = make_sweep(set={"evaluation.images": images})
        sweep_here(sweep)
    run = SweepFolder(sweep.output).cell("run-seed0")
    by_images = {record.n: record for record in read_scores(run / "scores.json") if record.name == run.name}
    assert sorted(by_images) == [6, 8] and by_images[6].fid != by_images[8].fid
    assert float(table(sweep.output)[0]["fid"]) == by_images[8].fid
    sweep_here(make_sweep(set={"evaluation.images": 6}))
    assert float(table(sweep.output)[0]["fid"]) == by_images[6].fid


def test_rounded_scores_are_not_taken_for_exact_ones(make_sweep, sweep_here):
    def fid(**settings):
        sweep = make_sweep(set=settings)
        sweep_here(sweep)
        return float(table(sweep.output)[0]["fid"])

    rounded = fid(**{"sampling.precision": "bf16"})
    exact = fid()
    assert rounded != exact
    assert fid(**{"sampling.precision": "bf16"}) == rounded
    assert fid(**{"sampling.channels_last": True}) == exact, "no other images, so nothing is scored anew"


def test_missing_data_is_told_before_anything_runs(make_sweep, sweep_here):
    sweep = make_sweep(settings=[{"name": "a"}, {"name": "b", "set": {"data.name": "npz:nowhere.npz"}}])
    with pytest.raises(DataError, match=r"nowhere\.npz"):
        sweep_here(sweep)
    assert not Path(sweep.output).exists()


def test_states_of_an_earlier_call_are_not_told_again(make_sweep, sweep_here):
    def fail(job):
        return Outcome(job.name, "failed", error="disk full")

    sweep = make_sweep(grid={"adapter.rank": [1, 2]}, score=False)
    assert len(sweep_here(sweep, InlineRunner(fail)).failed) == 2

    def stop(job):
        os.kill(os.getpid(), signal.SIGTERM)
        return Outcome(job.name, "interrupted")

    result = sweep_here(sweep, InlineRunner(stop))
    assert result.failed == {} and result.unfinished == ["rank1-seed0", "rank2-seed0"]
    assert result.signal == signal.SIGTERM


def test_a_stop_in_the_last_step_of_a_try_ends_the_race(make_sweep, sweep_here, monkeypatch):
    from superlora_diffusion.training import loop

    trained = []
    real = loop.Trainer._finish

    def asked_at_the_end(trainer):
        trained.append(trainer.config.learning_rate)
        os.kill(os.getpid(), signal.SIGINT)
        real(trainer)

    monkeypatch.setattr(loop.Trainer, "_finish", asked_at_the_end)
    result = sweep_here(make_sweep(learning_rate={"steps": 2}, score=False))
    assert len(trained) == 1 and result.unfinished == ["run-seed0"]


def test_a_failed_cell_is_recorded_and_the_rest_goes_on(make_sweep, sweep_here):
    settings = [
        {"name": "bad", "set": {"train.learning_rate": 1e30, "train.max_grad_norm": None}},
        {"name": "refused", "set": {"adapter.targets": ["to_z"]}},
        {"name": "good"},
    ]
    sweep = make_sweep(settings=settings, score=False)
    result = sweep_here(sweep)
    assert sorted(result.failed) == ["bad-seed0", "refused-seed0"] and not result.unfinished
    assert "the loss became" in result.failed["bad-seed0"] and "to_z" in result.failed["refused-seed0"]
    assert [row["setting"] for row in table(sweep.output)] == ["good"]
    state = SweepFolder(sweep.output).read_state()
    assert state["bad-seed0"]["status"] == "failed" and state["good-seed0"]["status"] == "finished"


def test_a_fault_of_ours_fails_its_cell_with_the_trace(make_sweep, sweep_here, monkeypatch):
    from superlora_diffusion.training import loop

    def broken(*args, **kwargs):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(loop, "train", broken)
    result = sweep_here(make_sweep())
    assert (
        "Traceback" in result.failed["run-seed0"] and "ZeroDivisionError: ours" in result.failed["run-seed0"]
    )


def test_tables_are_written_after_every_cell(make_sweep, sweep_here):
    sweep, seen = make_sweep(grid={"adapter.rank": [1, 2]}, score=False), []

    def work(job):
        path = Path(sweep.output) / "results.csv"
        seen.append(len(table(sweep.output)) if path.is_file() else None)
        return do_job(job)

    sweep_here(sweep, InlineRunner(work))
    assert seen == [0, 1] and len(table(sweep.output)) == 2


def test_a_race_gives_every_seed_its_settings_rate(make_sweep, sweep_here):
    search = {"steps": 2, "max_tries": 3, "tolerance": 0}
    sweep = make_sweep(seeds=[0, 1], learning_rate=search, score=False)
    runner = InlineRunner()
    sweep_here(sweep, runner)
    assert runner.submitted == ["run learning rate", "run-seed0", "run-seed1"]
    (result,) = SweepFolder(sweep.output).race("run").glob("*/race.json")
    stored = json.loads(result.read_text())
    tried = {float(rate): loss for rate, loss in stored["tried"].items()}
    best = min(tried, key=tried.get)
    assert sorted(tried) == [0.01, 0.02, 0.04] and len(set(tried.values())) == 3
    assert [float(row["lr"]) for row in table(sweep.output)] == [best, best]
    card = json.loads((SweepFolder(sweep.output).cell("run-seed1") / "cell.json").read_text())
    assert {point["learning_rate"]: point["validation_loss"] for point in card["race"]} == tried
    assert card["race_steps"] == 6 and card["race_seconds"] > 0 and card["setting"] == "run"


def test_another_process_cannot_run_the_same_sweep(make_sweep, sweep_here):
    sweep = make_sweep()
    with SweepFolder(sweep.output).locked(), pytest.raises(RunError, match="by another process"):
        sweep_here(sweep)


@pytest.mark.slow
def test_local_processes_give_the_numbers_of_this_process(make_sweep, sweep_here, tmp_path):
    values = {"grid": {"adapter.rank": [1, 2, 3]}}
    sweep_here(make_sweep(**values))
    other = make_sweep(**values, output=str(tmp_path / "other"))
    result = sweep_here(other, LocalRunner(processes=2, threads=1))
    assert not result.failed and table(other.output) == table(make_sweep().output)


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_cell_alone(make_sweep, sweep_here, monkeypatch):
    runner = LocalRunner(processes=1, threads=1)
    submit = runner.submit

    def kill_the_first(job):
        submit(job)
        if job.name == "rank1-seed0":
            while not runner._processes(0):
                time.sleep(0.05)
            os.kill(runner._processes(0)[0], signal.SIGKILL)

    monkeypatch.setattr(runner, "submit", kill_the_first)
    result = sweep_here(make_sweep(grid={"adapter.rank": [1, 2]}, score=False), runner)
    assert list(result.failed) == ["rank1-seed0"] and "worker process died" in result.failed["rank1-seed0"]
    assert [row["setting"] for row in result.rows] == ["rank2"]


@pytest.mark.slow
def test_an_idle_worker_that_dies_is_replaced(make_sweep, sweep_here, monkeypatch):
    runner = LocalRunner(processes=1, threads=1)
    submit = runner.submit

    def kill_the_idle_one(job):
        for worker in runner._processes(0):
            os.kill(worker, signal.SIGKILL)
            runner.pools[0]._processes[worker].join()
            time.sleep(0.5)  # until the pool has noticed
        submit(job)

    monkeypatch.setattr(runner, "submit", kill_the_idle_one)
    result = sweep_here(make_sweep(grid={"adapter.rank": [1, 2]}, score=False), runner)
    assert not result.failed and [row["setting"] for row in result.rows] == ["rank1", "rank2"]


def write_files(place, folder, **train):
    values = yaml.safe_load((place / "run.yaml").read_text())
    values["train"] |= train
    values |= {"checkpoint": {"every": 1000}, "log": {"every": 1}}
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    sweep = {"output": "sweep", "config": "run.yaml", "grid": {"adapter.rank": [1, 2]}, "score": False}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))


@pytest.mark.slow
def test_ctrl_c_leaves_a_state_that_the_same_command_finishes(place, tmp_path, monkeypatch):
    write_files(place, tmp_path, steps=200)
    words = ["sweep", "--config", "sweep.yaml"]
    command = [sys.executable, "-m", "superlora_diffusion", *words]
    metrics = tmp_path / "sweep/cells/rank1-seed0/metrics.jsonl"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        while not (metrics.is_file() and len(metrics.read_text().splitlines()) > 5):
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    said = (tmp_path / "log").read_text()
    assert "Run the same command again" in said and "Traceback" not in said
    state = json.loads((tmp_path / "sweep/state.json").read_text())
    assert state["rank1-seed0"]["status"] == "interrupted" and state["rank2-seed0"]["status"] == "waiting"
    assert list((tmp_path / "sweep/cells/rank1-seed0/checkpoints").glob("step-*"))
    monkeypatch.chdir(tmp_path)
    again = call(*words)
    assert again.exit_code == 0, again.stderr
    assert [row["setting"] for row in table(tmp_path / "sweep")] == ["rank1", "rank2"]
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if '"loss"' in line]
    assert steps == list(range(1, 201))


def test_a_dry_run_shows_cells_counts_and_time_and_makes_nothing(place, tmp_path, monkeypatch):
    write_files(place, tmp_path)
    monkeypatch.chdir(tmp_path)
    told = call("sweep", "--config", "sweep.yaml", "--dry-run")
    assert told.exit_code == 0 and "rank2-seed0" in told.stdout and "512" in told.stdout
    assert "2 jobs to do, about" in told.stdout and not (tmp_path / "sweep").exists()
    found = json.loads(call("sweep", "--config", "sweep.yaml", "--dry-run", "--json").stdout)
    assert [cell["parameters"] for cell in found["cells"]] == [256, 512] and found["jobs"] == 2
    assert found["estimated_seconds"] >= 0


def test_the_command_line_reports_failures_by_its_exit_code(place, tmp_path, monkeypatch):
    write_files(place, tmp_path)
    monkeypatch.chdir(tmp_path)
    from superlora_diffusion.sweeps import runners

    monkeypatch.setattr(runners, "make_runner", lambda *args, **kwargs: InlineRunner())
    done = call("sweep", "--config", "sweep.yaml", "--quiet", "--json")
    assert done.exit_code == 0 and len(json.loads(done.stdout)["rows"]) == 2

    def fail(job):
        return Outcome(job.name, "failed", error="no luck")

    monkeypatch.setattr(runners, "make_runner", lambda *args, **kwargs: InlineRunner(fail))
    failed = call("sweep", "--config", "sweep.yaml", "--output", "other")
    assert failed.exit_code == 1 and "failed: rank1-seed0: no luck" in failed.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--runner", "rya"), "Did you mean 'ray'?"),
        (("--address", "auto"), "--address: for --runner ray"),
        (("--gpus-per-cell", "0.5"), "--gpus-per-cell: for --runner ray"),
        (("--runner", "ray", "--processes", "2"), "--processes: for --runner local"),
        (("--device", "cdua"), "cdua"),
    ],
)
def test_wrong_options_are_told(place, tmp_path, monkeypatch, options, words):
    write_files(place, tmp_path)
    monkeypatch.chdir(tmp_path)
    told = call("sweep", "--config", "sweep.yaml", *options)
    assert told.exit_code == 2 and words in told.stderr


def test_a_cell_of_method_full_is_scored_and_counts_every_weight(make_sweep, sweep_here, place):
    result = sweep_here(make_sweep(set={"method": "full"}))
    assert not result.failed
    (row,) = table(make_sweep().output)
    assert float(row["fid"]) > 0 and row["family"] == "full"
    unet = load_base(BaseSettings(path=str(place / "base"))).network
    assert int(row["parameters"]) == sum(weight.numel() for weight in unet.parameters())
