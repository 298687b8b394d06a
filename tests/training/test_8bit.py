"""AdamW with its state in 8 bits, where bitsandbytes is installed (the extra `8bit`; the test extras leave it out)."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import run_config, write_base, write_data

from superlora_diffusion.training import loop
from superlora_diffusion.training.loop import train

pytest.importorskip("bitsandbytes")
# Below 4,096 numbers a tensor's state stays in 32 bits: the network of the other tests is too small.
WIDE = {"block_out_channels": (32, 64)}


def config(folder, name, **settings):
    values = {"optimizer": "adamw8bit", "learning_rate": 1e-3, "batch_size": 8, **settings}
    return run_config(folder, output=str(folder / name), method="full", train=values, checkpoint={"every": 2})


def last_loss(folder) -> float:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["validation_loss"] for line in lines if "validation_loss" in line][-1]


def test_it_learns_with_bytes_and_goes_on_after_a_stop(tmp_path, monkeypatch):
    write_base(tmp_path / "base", **WIDE)
    write_data(tmp_path / "data.npz")
    train(config(tmp_path, "plain", optimizer="adamw"), "cpu", quiet=True)
    train(config(tmp_path, "whole"), "cpu", quiet=True)
    assert last_loss(tmp_path / "whole") == pytest.approx(last_loss(tmp_path / "plain"), rel=0.02)
    state = load_file(tmp_path / "whole" / "checkpoints" / "step-000006" / "optimizer.safetensors")
    assert any(key.endswith(".state1") and value.dtype == torch.uint8 for key, value in state.items())
    real, calls = loop.Trainer._optimise, []

    def stop_at_the_fourth(self):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(loop.Trainer, "_optimise", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path, "parted"), "cpu", quiet=True)
    monkeypatch.undo()
    train(config(tmp_path, "parted"), "cpu", quiet=True)
    assert last_loss(tmp_path / "parted") == pytest.approx(last_loss(tmp_path / "whole"), rel=1e-5)
