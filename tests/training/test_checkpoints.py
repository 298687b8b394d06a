"""Checkpoints on disk."""

from __future__ import annotations

import pytest
import torch

from superlora_diffusion.errors import RunError, SuperLoRAError
from superlora_diffusion.training import checkpoints
from superlora_diffusion.training.checkpoints import (
    explain_broken,
    list_checkpoints,
    load_checkpoint,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)


def save(folder, step, keep=3, value=1.0):
    return save_checkpoint(folder, step, {"weights": {"w": torch.full((2, 3), value)}}, {"data": "x"}, keep)


def steps(folder):
    return [path.name for path in list_checkpoints(folder)]


def test_tensors_and_state_come_back(tmp_path):
    tensors = {"weights": {"a.b": torch.randn(3, 2).T, "c": torch.tensor(2.0)}, "ema": {"a.b": torch.ones(1)}}
    path = save_checkpoint(tmp_path / "checkpoints", 12, tensors, {"data": "x", "losses": [0.1]}, keep=1)
    assert path.name == "step-000012"
    back, state = load_checkpoint(path)
    assert state == {"step": 12, "data": "x", "losses": [0.1]}
    assert back.keys() == tensors.keys() and back["weights"].keys() == tensors["weights"].keys()
    assert torch.equal(back["weights"]["a.b"], tensors["weights"]["a.b"])
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}


def test_the_newest_are_kept_also_beyond_a_million(tmp_path):
    for step in (999_998, 999_999, 1_000_000, 1_000_001):
        save(tmp_path, step, keep=2)
    assert steps(tmp_path) == ["step-1000000", "step-1000001"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    save(tmp_path, 5)
    path = save(tmp_path, 5, value=2.0)
    assert load_checkpoint(path)[0]["weights"]["w"].max() == 2 and steps(tmp_path) == ["step-000005"]


def test_a_full_disk_leaves_the_old_ones_and_no_rest(tmp_path, monkeypatch):
    save(tmp_path, 5, keep=1)

    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(SuperLoRAError, match=r"step-000006 cannot be written: No space left"):
        save(tmp_path, 6, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000005"]


def test_rests_of_a_killed_process_are_neither_read_nor_kept(tmp_path):
    (tmp_path / ".step-000009-abc").mkdir(parents=True)
    (tmp_path / "step-000009").mkdir()
    assert steps(tmp_path) == []
    save(tmp_path, 3)
    assert steps(tmp_path) == ["step-000003"] and not list(tmp_path.glob(".step-*"))


@pytest.mark.parametrize("error", [OSError("x"), KeyError("weights"), ValueError("y"), RuntimeError("size")])
def test_whatever_is_broken_is_named_with_what_to_do(tmp_path, error):
    with pytest.raises(RunError, match=r"checkpoint here is broken: .*Delete it"), explain_broken("here"):
        raise error


def test_the_optimisers_state_goes_on_exactly():
    def make():
        torch.manual_seed(1)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)

    def step(layer, optimizer, seed):
        layer(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    layer, optimizer = make()
    step(layer, optimizer, 0)
    flat = {key: value.clone() for key, value in pack_optimizer(optimizer.state_dict()).items()}
    assert set(flat) == {f"{i}.{name}" for i in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")}
    other, fresh = make()
    other.load_state_dict(layer.state_dict())
    fresh.load_state_dict(unpack_optimizer(flat, fresh.state_dict()))
    step(layer, optimizer, 1)
    step(other, fresh, 1)
    assert torch.equal(layer.weight, other.weight)
