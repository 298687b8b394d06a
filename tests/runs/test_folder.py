"""The run folder: who may use it, with which config, and what it remembers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from tiny import run_config

from superlora_diffusion.errors import RunError
from superlora_diffusion.runs.folder import RunFolder, environment, trim_metrics

HOLD = """
import sys
from superlora_diffusion.runs.folder import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path):
    folder = RunFolder(tmp_path / "run")
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with first:
        assert first.stdout.readline() == "held\n"
        for _ in range(2):  # a refusal does not take the lock away
            with pytest.raises(RunError, match=r"run is in use by another process"), folder.locked():
                pass
        first.stdin.close()
        assert first.wait() == 0
    with folder.locked():
        assert (folder.path / "lock").exists()
    assert not (folder.path / "lock").exists()


def test_the_lock_is_given_back_after_an_error(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(KeyError), folder.locked():
        raise KeyError
    with folder.locked():
        pass


def test_a_place_where_no_folder_can_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match=r"file/run cannot be made"),
        RunFolder(tmp_path / "file" / "run").locked(),
    ):
        pass
    (tmp_path / "run" / "lock").mkdir(parents=True)
    with pytest.raises(RunError, match=r"run cannot be written"), RunFolder(tmp_path / "run").locked():
        pass


def test_another_config_is_refused_with_the_difference(tmp_path):
    folder, config = RunFolder(tmp_path / "run"), run_config(tmp_path)
    folder.check(config)
    folder.claim(config)
    folder.check(config)
    assert folder.read_config() == config
    changed = run_config(tmp_path, train={"steps": 9}, seed=4)
    with pytest.raises(RunError, match=r"made with another config") as caught:
        folder.check(changed)
    assert "train.steps: 6 -> 9" in str(caught.value) and "seed: 0 -> 4" in str(caught.value)
    assert "batch_size" not in str(caught.value)
    folder.claim(changed)
    assert folder.read_config() == config


def test_a_run_from_before_a_section_existed_goes_on_at_its_defaults(tmp_path):
    folder, config = RunFolder(tmp_path / "run"), run_config(tmp_path)
    folder.claim(config)
    values = yaml.safe_load(folder.config.read_text())
    del values["peft"], values["train"]["min_snr_gamma"]
    folder.config.write_text(yaml.safe_dump(values))
    folder.check(config)
    with pytest.raises(RunError, match=r"peft.tuner: 'lora' -> 'vera'"):
        folder.check(run_config(tmp_path, peft={"tuner": "vera"}))


def test_a_folder_may_be_moved(tmp_path):
    folder, config = RunFolder(tmp_path / "run"), run_config(tmp_path)
    folder.claim(config)
    folder.path.rename(tmp_path / "moved")
    RunFolder(tmp_path / "moved").check(run_config(tmp_path, output=str(tmp_path / "moved")))


def test_no_run_folder_says_so(tmp_path):
    with pytest.raises(RunError, match=r"no run folder: it has no config.yaml"):
        RunFolder(tmp_path).read_config()


def test_metrics_after_the_checkpoint_and_torn_lines_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 2}) for step in (2, 4, 4, 6)]
    path.write_text("\n".join(lines) + '\n{"step": 3, "lo')
    trim_metrics(path, 4)
    assert path.read_text() == "\n".join(lines[:3]) + "\n"
    trim_metrics(path, 0)
    assert path.read_text() == ""
    trim_metrics(tmp_path / "none", 3)
    assert not (tmp_path / "none").exists()


def test_the_environment_names_versions(tmp_path):
    import torch

    found = environment()
    assert torch.__version__.startswith(found["libraries"]["torch"].split("+")[0])
    assert set(found) == {"python", "platform", "command", "libraries"}
    RunFolder(tmp_path).claim(run_config(tmp_path))
    assert json.loads((tmp_path / "environment.json").read_text()) == found
