"""The verbs end to end on a tiny base, as a person would type them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import yaml
from pipelines import write_pipeline
from tiny import run_values, write_base, write_data
from typed import call

from superlora_diffusion import __version__
from superlora_diffusion.adapters.variants import LEARNING_RATES
from superlora_diffusion.cli import eval_is, sample, train
from superlora_diffusion.errors import SuperLoRAError


def fails(code, *words):
    """What a call that fails with ``code`` says on standard error; standard output stays empty."""
    result = call(*words)
    assert result.exit_code == code, result.stderr
    assert result.stdout == "" and "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny base, data, the config ``mine.yaml`` and a finished run ``runs/demo``."""
    folder = tmp_path_factory.mktemp("typed")
    write_base(folder / "base")
    write_data(folder / "data.npz")
    (folder / "mine.yaml").write_text(yaml.safe_dump(run_values(folder, output="runs/demo")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = call("train", "--config", "mine.yaml", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    (folder / "said.txt").write_text(result.stdout)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


# --- train -----------------------------------------------------------------------------------------------


def test_train_says_where_the_adapter_is_and_what_comes_next(here):
    said = (here / "said.txt").read_text()
    assert "Finished: the adapter is in runs/demo/adapter" in said
    assert "superlora-diff sample runs/demo" in said and "superlora-diff eval-is runs/demo" in said
    assert (here / "runs/demo/adapter/adapter_model.safetensors").is_file()


def test_a_log_shows_loss_validation_speed_and_time_left(here, tmp_path):
    result = call("train", "-c", "mine.yaml", f"output={tmp_path}/run", "log.every=3")
    pattern = r"train: step 6/6  loss \d\.\d+  validation \d\.\d+  [\d.]+ steps/s  lr \S+  left 0:00"
    assert re.search(pattern, result.stderr) and "Training 512 numbers (the adapter)" in result.stderr


def test_the_same_command_again_does_nothing(here):
    before = (here / "runs/demo/metrics.jsonl").read_text()
    result = call("train", "--config", "mine.yaml")
    assert result.exit_code == 0 and "Already finished" in result.stdout
    assert (here / "runs/demo/metrics.jsonl").read_text() == before
    assert json.loads(call("train", "--config", "mine.yaml", "--json").stdout)["trained"] is False


def test_quiet_is_silent_and_json_is_all_there_is(here, tmp_path):
    result = call("train", "-q", "-c", "mine.yaml", f"output={tmp_path}/quiet", "method=full")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    result = call("train", "-c", "mine.yaml", f"output={tmp_path}/json", "--json")
    assert json.loads(result.stdout) == {
        "output": f"{tmp_path}/json",
        "result": f"{tmp_path}/json/adapter",
        "trained": True,
    }


def test_the_end_says_which_step_was_best(here, tmp_path):
    words = ("train", "-c", "mine.yaml", f"output={tmp_path}/run", "eval.every=3", "eval.interval_images=8")
    result = call(*words, "eval.metrics=fid")
    assert re.search(r"step 3: fid \S+ \(best so far\)", result.stderr)
    assert result.stderr.count("note: FID from 8 images") == 1
    found = re.search(rf"The best by fid was step (3|6), fid \S+: {tmp_path}/run/best", result.stdout)
    told = json.loads(call(*words, "eval.metrics=fid", "--json").stdout)
    assert told["trained"] is False and told["best"]["step"] == int(found[1])
    assert (
        call("sample", f"{tmp_path}/run/best", "--out", tmp_path / "s", "--count", 2, "--steps", 1).exit_code
        == 0
    )


def test_a_dry_run_prints_config_targets_and_count_and_leaves_nothing(here, tmp_path):
    words = ("train", "-c", "mine.yaml", f"output={tmp_path}/run", "train.steps=9", "--dry-run")
    said = call(*words).stdout
    rate = f"learning rate {LEARNING_RATES['lora']:g}"
    assert "steps: 9" in said and f"512 numbers train, at {rate}" in said
    assert re.search(r"down_blocks\.1\.attentions\.0\.to_q +16 x 16", said)
    plan = json.loads(call(*words, "--json").stdout)
    assert plan["parameters"] == 512 and plan["config"]["train"]["steps"] == 9
    assert f"{len(plan['targets'])} targets" in said
    assert not (tmp_path / "run").exists()


def test_another_config_in_the_same_folder_is_refused(here):
    said = fails(1, "train", "-c", "mine.yaml", "train.steps=7", "seed=3")
    assert "train.steps: 6 -> 7" in said and "seed: 0 -> 3" in said and said.startswith("error: ")


def test_faults_of_the_config_are_all_told_with_exit_code_two(here):
    said = fails(2, "train", "-c", "mine.yaml", "train.step=7", "data.name=mnits", "sampling.sampler=heun")
    assert "train.step: unknown name 'step'. Did you mean 'steps'?" in said
    assert "data.name: " in said and "'mnits'" in said and "zero terminal SNR" in said
    assert "is neither a file" in fails(2, "train", "-c", "nothing.yaml")
    assert "key.path=value" in fails(2, "train", "-c", "mine.yaml", "train")
    assert "'gpu' is unknown" in fails(2, "train", "-c", "mine.yaml", "output=x", "--device", "gpu")


def test_places_and_sources_that_are_not_there(here, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be made" in fails(1, "train", "-c", "mine.yaml", f"output={tmp_path}/file/run")
    assert "gone.npz" in fails(
        1, "train", "-c", "mine.yaml", f"output={tmp_path}/a", "data.name=npz:gone.npz"
    )
    assert "./gone' is no folder" in fails(
        1, "train", "-c", "mine.yaml", f"output={tmp_path}/a", "base.path=./gone"
    )
    said = fails(1, "train", "-c", "mine.yaml", f"output={tmp_path}/a", "adapter.targets=[to_x]")
    assert "to_x" in said and "to_q" in said


# --- sample ----------------------------------------------------------------------------------------------


def test_sample_draws_from_run_adapter_and_base(here, tmp_path):
    sources = [("runs/demo", ()), ("runs/demo/adapter", ("--steps", 2)), ("base", ("--steps", 2))]
    for number, (source, options) in enumerate(sources):
        out = tmp_path / f"deep/{number}"
        result = call("sample", source, "--out", out, "--count", 4, "--format", "npz", *options)
        assert result.exit_code == 0, result.stderr
        assert f"4 images: {out}/samples.npz" in result.stdout
        assert json.loads((out / "samples.json").read_text())["sampling"]["steps"] == 2
    run, adapter, base = (np.load(tmp_path / f"deep/{n}/samples.npz")["images"].astype(int) for n in range(3))
    assert np.array_equal(run, adapter) and np.abs(run - base).max() > 0
    result = call(
        "sample", "runs/demo", "--out", tmp_path / "zero", "--count", 4, "--format", "npz", "--scale", 0
    )
    assert np.array_equal(np.load(tmp_path / "zero/samples.npz")["images"], base) and result.exit_code == 0


def test_sample_json_and_quiet(here, tmp_path):
    words = ("sample", "runs/demo", "--out", tmp_path, "--count", 2, "--classes", "oak", "--merge")
    written = json.loads(call(*words, "--json", "--format", "png").stdout)
    assert written == json.loads((tmp_path / "samples.json").read_text())
    assert written["merged"] and written["classes"] == [3, 3] and len(written["files"]) == 2
    result = call(*words, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_sample_says_what_is_wrong(here, tmp_path):
    assert "'elm' is unknown" in fails(2, "sample", "base", "--classes", "elm")
    assert "zero terminal SNR" in fails(2, "sample", "base", "--sampler", "heun")
    assert "format: got 'gif'" in fails(2, "sample", "base", "--format", "gif")
    assert "steps: got 0" in fails(2, "sample", "base", "--steps", 0)
    assert "'gpu' is unknown" in fails(2, "sample", "base", "--device", "gpu")
    assert "no adapter" in fails(1, "sample", "base", "--scale", 2)
    assert "./gone' is no folder" in fails(1, "sample", "./gone")
    (tmp_path / "file").write_text("")
    said = fails(1, "sample", "base", "--count", 1, "--steps", 1, "-q", "--out", tmp_path / "file/out")
    assert "file/out/grid.png cannot be written" in said


def test_an_adapter_on_another_base_warns_in_one_line(here, tmp_path):
    import torch
    from tiny import make_base

    from superlora_diffusion.models.storage import save_base

    other = make_base()
    with torch.no_grad():
        for parameter in other.network.parameters():
            parameter.add_(torch.randn_like(parameter))
    save_base(other, tmp_path / "other")
    words = (
        "sample",
        "runs/demo/adapter",
        "--base",
        tmp_path / "other",
        "--out",
        tmp_path,
        "--count",
        1,
        "-q",
    )
    result = call(*words)
    assert result.exit_code == 0 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("warning: ") and "another base" in result.stderr


# --- eval-is ---------------------------------------------------------------------------------------------


def test_eval_is_prints_a_table_and_leaves_scores_and_a_plot(here):
    result = call("eval-is", "runs/demo")
    assert result.exit_code == 0, result.stderr
    assert "base" in result.stdout and "demo" in result.stdout and "runs/demo/scores.json" in result.stdout
    assert (here / "runs/demo/is-distance.png").read_bytes().startswith(b"\x89PNG")
    records = json.loads((here / "runs/demo/scores.json").read_text())
    assert [record["name"] for record in records] == ["base", "demo"]
    assert json.loads(call("eval-is", "runs/demo", "--json", "-q").stdout) == records


def test_some_metrics_of_the_adapter_alone(here, tmp_path):
    call("train", "-q", "-c", "mine.yaml", f"output={tmp_path}/other", "adapter.rank=1")
    result = call("eval-is", tmp_path / "other", "--metrics", "fid,kid", "--only", "adapter")
    assert result.exit_code == 0 and "KID" in result.stdout and "IS" not in result.stdout.split("Scores:")[0]
    assert "No plot" in result.stderr and "base" not in result.stdout
    (record,) = json.loads((tmp_path / "other/scores.json").read_text())
    assert record["is_mean"] is None and record["kid"] is not None
    assert "Did you mean 'kid'" in fails(2, "eval-is", tmp_path / "other", "--metrics", "kdi")


def test_an_extractor_of_ones_own_is_trained_and_scores(here, tmp_path):
    words = ("extractor", "train", "--data", "npz:data.npz", "--out", tmp_path / "trees", "--steps", 2)
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    assert "Finished: the extractor" in result.stdout and "held-out images" in result.stdout
    assert json.loads(call(*words, "--json").stdout)["trained"] is False
    words = ("eval-is", "runs/demo", "--extractor", tmp_path / "trees", "--json", "--only", "adapter")
    (record,) = json.loads(call(*words).stdout)
    assert record["extractor"] == "trees" and 0 <= record["accuracy"] <= 1 and record["is_real"] <= 4
    assert "no data set is called" in fails(2, "extractor", "train", "--data", "mnits", "--out", "x")
    assert "differs in: training" in fails(
        2, "extractor", "train", "--data", "npz:data.npz", "--out", tmp_path / "trees", "--steps", 3, "-q"
    )


def test_scored_images_are_kept_when_asked(here):
    result = call("eval-is", "runs/demo", "--save-images", "--seed", 5)
    assert "Images: runs/demo/samples/scored-*.npz" in result.stdout
    assert len(list((here / "runs/demo/samples").glob("scored-*.npz"))) == 2


def test_several_runs_share_one_base_and_one_plot(here, tmp_path):
    call("train", "-q", "-c", "mine.yaml", f"output={tmp_path}/other", "adapter.rank=1")
    words = ("eval-is", "runs/demo", tmp_path / "other", "--plot", tmp_path / "deep/plot.png", "--images", 6)
    records = json.loads(call(*words, "--json").stdout)
    assert [record["name"] for record in records] == ["base", "demo", "other"]
    assert (tmp_path / "deep/plot.png").is_file()
    assert {record["n"] for record in records} == {6}


def test_eval_is_says_what_is_wrong(here, tmp_path):
    assert "runs/gone is no folder here" in fails(1, "eval-is", "runs/gone")
    assert "base is no run folder" in fails(1, "eval-is", "base")
    assert "'heun'" in fails(2, "eval-is", "runs/demo", "--sampler", "heun")
    assert "images: got 1" in fails(2, "eval-is", "runs/demo", "--images", 1)
    assert "'digit' is not known" in fails(2, "eval-is", "runs/demo", "--extractor", "digit")
    assert "mnits" in fails(2, "eval-is", "runs/demo", "--real", "mnits")
    assert "'cuda:99' is not there" in fails(2, "eval-is", "runs/demo", "--device", "cuda:99")
    (tmp_path / "half").mkdir()
    (tmp_path / "half/config.yaml").write_text((here / "runs/demo/config.yaml").read_text())
    assert "is not finished" in fails(1, "eval-is", tmp_path / "half")
    assert "is not finished" in fails(1, "sample", tmp_path / "half")
    (tmp_path / "file").write_text("")
    result = call("eval-is", "runs/demo", "--plot", tmp_path / "file/plot.png", "-q")
    assert result.exit_code == 1 and "cannot be written" in result.stderr and "demo" in result.stdout


# --- configs, help, the program itself -------------------------------------------------------------------


def test_configs_are_listed_copied_and_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = call("configs", "ls").stdout
    assert re.search(r"^demo +\S+", listed, re.M) and "base-synthdigits-16" in listed
    assert (
        "superlora-diff train --config deep/mine.yaml"
        in call("configs", "cp", "demo", "deep/mine.yaml").stdout
    )
    assert "deep/mine.yaml is valid" in call("configs", "validate", "deep/mine.yaml").stdout
    assert "exists already" in fails(2, "configs", "cp", "demo", "deep/mine.yaml")
    assert "Did you mean 'demo'" in fails(2, "configs", "cp", "dmo", "x.yaml")
    assert "train.step" in fails(2, "configs", "validate", "demo", "train.step=1")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in fails(1, "configs", "cp", "demo", "file/x.yaml")


def examples(text):
    return [
        shlex.split(line.strip())[1:]
        for line in text.splitlines()
        if line.strip().startswith("superlora-diff ")
    ]


def test_the_examples_of_train_run_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = examples(train._HELP)
    assert len(found) >= 2
    for words in found:
        result = call(*words, "--dry-run", "--json")
        assert json.loads(result.stdout)["parameters"] > 0


def test_the_examples_of_sample_and_eval_is_run_as_printed(here, tmp_path):
    (here / "runs/other").symlink_to("demo")
    found = examples(sample._HELP) + examples(eval_is._HELP)
    assert len(found) >= 7
    for words in found:
        if "--prompt" in words:
            words[1] = str(write_pipeline("sd", tmp_path / "sd"))
        less = ["--steps", "1", "--count", "2"] if {"synthdigits-16", "--prompt"} & set(words) else []
        assert call(*words, *less).exit_code == 0


HELP = """
import sys
from typer.testing import CliRunner
from superlora_diffusion.cli.main import app
for words in [], ["train"], ["sample"], ["eval-is"], ["params"], ["inspect"], ["configs"], ["configs", "ls"], \
        ["configs", "cp"], ["extractor"], ["extractor", "train"], ["cache"], ["cache", "ls"], ["cache", "clear"], \
        ["doctor"], ["push"], ["diff"]:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, words
    example = "superlora-diff " + " ".join(words[:1])
    assert words in (["configs"], ["cache"], ["extractor"]) or example in result.stdout, (words, result.stdout)
    assert not words or "Usage: " in result.stdout
assert "[KEY.PATH=VALUE]" in CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).stdout
from superlora_diffusion.runs.loading import load_config
load_config("demo")
slow = {"torch", "diffusers", "matplotlib", "sklearn", "accelerate"} & set(sys.modules)
assert not slow, slow
"""


def test_help_shows_examples_and_loads_no_torch():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_program_itself_exits_without_a_traceback(tmp_path):
    words = [sys.executable, "-m", "superlora_diffusion"]
    done = subprocess.run(
        [*words, "train", "-c", "demo", "train.step=3"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and done.stdout == "" and "Did you mean 'steps'" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"superlora-diffusion {__version__}\n")


def test_only_our_own_errors_become_messages(monkeypatch, here):
    from superlora_diffusion.runs import loading

    def broken(*arguments):
        raise ZeroDivisionError("ours to repair")

    monkeypatch.setattr(loading, "load_config", broken)
    with pytest.raises(ZeroDivisionError):
        call("train", "-c", "demo")
    assert not issubclass(ZeroDivisionError, SuperLoRAError)


def test_another_base_goes_with_an_adapter_alone(here):
    result = call("sample", "base", "--base", "base", "--out", "x")
    assert result.exit_code == 2 and "--base base goes with an adapter" in result.stderr
    assert not (here / "x").exists()
