"""What goes wrong, and what is said then."""

from __future__ import annotations

import pytest
import torch
from tiny import write_base

from superlora_diffusion.errors import BaseModelError, ConfigError, DataError, RunError
from superlora_diffusion.training import denoising, loop, setup
from superlora_diffusion.training.checkpoints import list_checkpoints
from superlora_diffusion.training.memory import explain_out_of_memory, is_out_of_memory


def make_loss_fail(monkeypatch, calls, failure):
    """The loss of training batch number ``calls`` (from 1) and later is what ``failure`` makes of it."""
    real, count = denoising.denoising_loss, [0]

    def loss(*arguments):
        count[0] += 1
        value = real(*arguments)
        return failure(value) if count[0] >= calls else value

    monkeypatch.setattr(denoising, "denoising_loss", loss)


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(config, train, monkeypatch, log_every):
    make_loss_fail(monkeypatch, 4, lambda loss: loss * float("nan"))
    with pytest.raises(RunError, match=r"the loss became nan before step [46]\. The last good") as caught:
        train(config(checkpoint={"every": 2}, log={"every": log_every}, validation={"every": 100}))
    text = str(caught.value)
    good = list_checkpoints(train.last.folder.checkpoints)
    assert [path.name for path in good][-1] == ("step-000002")
    assert f"train.learning_rate (it was {config().learning_rate:g})" in text
    assert str(good[-1]) in text and "warmup" in text
    assert not train.last.folder.is_finished(config())


def test_without_a_checkpoint_it_says_so(config, train, monkeypatch):
    make_loss_fail(monkeypatch, 1, lambda loss: loss / 0)
    with pytest.raises(RunError, match=r"the loss became inf .*There is no checkpoint yet"):
        train(config())


def test_an_absurd_learning_rate_saves_nothing(config, train):
    absurd = {"steps": 6, "batch_size": 4, "learning_rate": 1e30, "ema_decay": None}
    with pytest.raises(RunError, match=r"the loss became .*lower train.learning_rate \(it was 1e\+30\)"):
        train(config(train=absurd, checkpoint={"every": 1}))
    for checkpoint in list_checkpoints(train.last.folder.checkpoints):
        tensors, _ = loop.load_checkpoint(checkpoint)
        assert all(value.isfinite().all() for value in tensors["weights"].values())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you "
            "tried to allocate 400000000000 bytes.\nmore"
        ),
    ],
)
def test_out_of_memory_names_what_helps(config, train, monkeypatch, error):
    def fail(loss):
        raise error

    make_loss_fail(monkeypatch, 2, fail)
    with pytest.raises(RunError, match=r"out of memory with train.batch_size 4 and") as caught:
        train(config())
    text = str(caught.value)
    assert "train.gradient_accumulation 1" in text and "gradient_checkpointing" in text and "\n" not in text


def test_the_cpus_allocator_is_recognised(config):
    with pytest.raises(RunError, match="out of memory"), explain_out_of_memory(config()):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_pass(config, train, monkeypatch):
    def fail(loss):
        raise RuntimeError("shapes do not match")

    make_loss_fail(monkeypatch, 1, fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(config())
    assert not is_out_of_memory(RuntimeError("index out of range"))


def test_a_real_shortage_in_the_network_is_explained(config, train, monkeypatch):
    real = setup.load_base

    def greedy(settings):
        base = real(settings)
        base.network.register_forward_pre_hook(lambda *_: torch.empty(1 << 60, dtype=torch.uint8))
        return base

    monkeypatch.setattr(setup, "load_base", greedy)
    with pytest.raises(RunError, match="out of memory"):
        train(config())


def test_fp16_on_the_cpu_is_refused_by_name(config, train):
    with pytest.raises(ConfigError, match=r"train.mixed_precision: got 'fp16' on the CPU.*bf16"):
        train(config(train={"mixed_precision": "fp16"}))


def test_trackers_are_known_and_installed(config, train, monkeypatch):
    with pytest.raises(ConfigError, match=r"log.trackers: got 'tensorbord'. Did you mean 'tensorboard'"):
        train(config(log={"trackers": ["tensorbord"]}))
    monkeypatch.setattr(setup, "get_available_trackers", list)
    with pytest.raises(ConfigError, match=r"log.trackers: got 'tensorboard', which is not installed"):
        train(config(log={"trackers": ["tensorboard"]}))


def test_class_dropout_needs_a_null_class(config, train, tmp_path):
    base = {"path": str(write_base(tmp_path / "plain", null_class=False))}
    with pytest.raises(BaseModelError, match=r"no null class, which train.class_dropout 0.1 needs"):
        train(config(base=base))
    assert train(config(base=base, train={"class_dropout": 0.0}, preview={"every": 6}))


def test_a_run_that_never_began_does_not_claim_its_folder(config, train, place):
    with pytest.raises(DataError, match=r"nothing.npz"):
        train(config(data={"name": "npz:nothing.npz"}))
    with pytest.raises(BaseModelError, match=r"is no folder"):
        train(config(base={"path": "./nothing"}))
    assert train(config())


def test_a_run_folder_under_a_file_is_refused(config, train, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/run cannot be made"):
        train(config("file/run"))
