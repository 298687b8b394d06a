"""An interrupted run that goes on ends where an uninterrupted one does: bit for bit."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import yaml
from tiny import UNET, ZERO_SNR, write_data

from superlora_diffusion.errors import RunError
from superlora_diffusion.peers import peft_tuners
from superlora_diffusion.training import loop
from superlora_diffusion.training.checkpoints import list_checkpoints


class StopAfter:
    """A request to stop that comes after so many steps of one process."""

    signal = None

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.fixture
def interrupted(monkeypatch, train):
    """Trains and is asked to stop after ``steps`` steps."""

    def run(config, steps):
        @contextmanager
        def requests():
            yield StopAfter(steps)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "stop_on_signals", requests)
            with pytest.raises(loop.Interrupted, match=r"Stopped at step \d+; saved. Run the same command"):
                train(config)

    return run


def everything(folder):
    """What a run leaves, but for its own name and the clock."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".png") or path.name == "state.json":
            files[str(path.relative_to(folder))] = path.read_bytes()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    files["metrics"] = [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines]
    return files


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert not [name for name in first if first[name] != second[name]]
    assert len(first) >= 4 and len(first["metrics"]) >= 3


DROPOUT = {"unet": {**UNET, "dropout": 0.3, "block_out_channels": [8, 16]}, "noise_schedule": ZERO_SNR}
KINDS = {
    "adapter": {},
    "full": {"method": "full"},
    "no-ema": {"train": {"ema_decay": None, "lr_schedule": "linear", "warmup_steps": 3}},
    "accumulated": {"train": {"gradient_accumulation": 3, "batch_size": 2, "min_snr_gamma": 5}},
    "augmented": {"data": {"augment": {"shift": 1, "rotate": 10, "flip": True}}},
    "checkpointing": {"train": {"gradient_checkpointing": True}},
    "bf16": {"train": {"mixed_precision": "bf16"}},
    "dropout": {"method": "full", "base": {"path": None, "build": DROPOUT}},
    "peft": {"method": "peft", "peft": {"tuner": "vera", "options": {"r": 8, "vera_dropout": 0.3}}},
    "lycoris": {"method": "lycoris", "train": {"mixed_precision": "bf16", "gradient_checkpointing": True}},
    "difffit": {"method": "difffit", "train": {"gradient_checkpointing": True}},
    "projected": {"adapter": {"variant": "lonkr", "projection": "fastfood", "ratio": 0.5, "splits": 2}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_two_interruptions_change_nothing(kind, config, train, interrupted):
    sections = {"preview": {"every": 4}, "log": {"every": 3}, "seed": 5, **KINDS[kind]}
    sections["train"] = {"steps": 7, "batch_size": 8, "warmup_steps": 2, **sections.get("train", {})}
    train(config("whole", **sections))
    whole = train.last.folder.path
    parts = config("parts", **sections)
    interrupted(parts, 2)
    assert [path.name for path in list_checkpoints(train.last.folder.checkpoints)] == ["step-000002"]
    interrupted(parts, 3)
    assert train.last.step == 5
    train(parts)
    second = everything(train.last.folder.path)
    for step in ("000002", "000005"):  # saved because of the interruptions
        second = {name: value for name, value in second.items() if f"step-{step}" not in name}
    assert_same(everything(whole), second)


def test_frozen_random_state_of_a_peer_goes_on_with_its_run(config, train, interrupted, monkeypatch):
    sections = {
        "method": "peft",
        "peft": {"tuner": "vera", "options": {"r": 8}},
        "train": {"learning_rate": 0.1},
    }
    train(config("whole", **sections))
    whole = train.last.folder.adapter
    interrupted(config("parts", **sections), 2)
    monkeypatch.setattr(peft_tuners, "seed_for", lambda purpose, seed: 99)  # as another version might draw
    train(config("parts", **sections))
    for name in ("adapter_model.safetensors", "fixed.safetensors"):
        assert (train.last.folder.adapter / name).read_bytes() == (whole / name).read_bytes()


def test_learning_rates_follow_the_schedule_through_an_interruption(config, train, interrupted):
    sections = {
        "train": {"steps": 8, "warmup_steps": 4, "learning_rate": 0.1, "lr_schedule": "linear"},
        "log": {"every": 1},
    }
    interrupted(config(**sections), 3)
    train(config(**sections))
    rates = [
        line["learning_rate"] for line in everything(train.last.folder.path)["metrics"] if "loss" in line
    ]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.075, 0.05, 0.025, 0.0])


def stop_by_signal(command, number):
    """Run until the first step is reported, send the signal; (exit code, standard output, standard error)."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("train: step"):
                process.send_signal(number)
                break
        said += process.stderr.read()
        return process.wait(), process.stdout.read(), said


@pytest.mark.slow
def test_real_signals_stop_a_real_process_and_it_goes_on_exactly(config, train, tmp_path):
    sections = {
        "train": {"steps": 120, "batch_size": 4},
        "log": {"every": 1},
        "validation": {"every": 60},
    }
    parts = config("parts", **sections)
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(parts.model_dump(mode="json")))
    command = [sys.executable, "-m", "superlora_diffusion", "train", "-c", str(file), "--device", "cpu"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        returned, out, said = stop_by_signal(command, number)
        assert (returned, out) == (code, ""), said
        assert "interrupted: Stopped at step" in said and "Run the same command again" in said
        assert str(tmp_path / "parts") in said and "Traceback" not in said
    assert "Going on from step" in said
    assert len(list_checkpoints(tmp_path / "parts" / "checkpoints")) == 2
    assert not (tmp_path / "parts" / "lock").exists()
    train(parts)
    train(config("whole", **sections))
    whole, resumed = (everything(tmp_path / name) for name in ("whole", "parts"))
    kept = {name: value for name, value in resumed.items() if name in whole}  # without the extra checkpoints
    assert_same(whole, kept)


def test_a_finished_run_does_nothing(config, train):
    assert train(config()) is True
    folder = train.last.folder.path

    def state():
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}

    before, train.last = state(), None
    assert train(config()) is False
    assert train.last is None and state() == before


def test_a_changed_config_is_refused_before_and_after_the_end(config, train, interrupted):
    interrupted(config(), 2)
    for _ in range(2):
        with pytest.raises(RunError, match=r"made with another config:\n  train.batch_size: 4 -> 5\n"):
            train(config(train={"batch_size": 5}))
        train(config())


def test_other_images_under_the_same_name_are_refused(config, train, interrupted, tmp_path, place):
    data = tmp_path / "data.npz"
    data.write_bytes((place / "data.npz").read_bytes())
    changing = config(data={"name": f"npz:{data}"})
    interrupted(changing, 2)
    write_data(data, train=41)
    with pytest.raises(RunError, match=r"step-000002 was trained on other images than npz:"):
        train(changing)


def truncate(checkpoint):
    file = checkpoint / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda checkpoint: (checkpoint / "state.json").write_text('{"step": 4'),
        lambda checkpoint: (checkpoint / "optimizer.safetensors").unlink(),
        lambda checkpoint: (checkpoint / "ema.safetensors").unlink(),
        lambda checkpoint: (checkpoint / "state.json").write_text('{"step": 4}'),
    ],
)
def test_a_broken_newest_checkpoint_is_named_and_the_one_before_goes_on(damage, config, train, interrupted):
    sections = {"checkpoint": {"every": 2}, "train": {"steps": 6, "batch_size": 4}}
    train(config("whole", **sections))
    whole = (train.last.folder.adapter / "adapter_model.safetensors").read_bytes()
    interrupted(config(**sections), 4)
    newest = list_checkpoints(train.last.folder.checkpoints)[-1]
    damage(newest)
    with pytest.raises(RunError, match=r"step-000004 is broken: .*Delete it to go on from the one before"):
        train(config(**sections))
    shutil.rmtree(newest)
    train(config(**sections))
    assert (train.last.folder.adapter / "adapter_model.safetensors").read_bytes() == whole


def test_a_checkpoint_holds_what_trains_and_no_base(config, train):
    train(config(checkpoint={"every": 2, "keep": 2}))
    folder = train.last.folder.checkpoints
    assert [path.name for path in list_checkpoints(folder)] == ["step-000004", "step-000006"]
    newest = list_checkpoints(folder)[-1]
    sizes = {path.name: path.stat().st_size for path in newest.iterdir()}
    assert set(sizes) == {"weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"}
    assert sizes["weights.safetensors"] < 4 * train.last.trainee.count + 4_000
    assert sum(sizes.values()) < 4 * 4 * train.last.trainee.count + 20_000 < 4 * 40_000
