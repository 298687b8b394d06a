"""What the loop computes, and that nothing it does on the side changes that."""

from __future__ import annotations

import json
import math

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import NAMES, UNET, ZERO_SNR, write_base

from superlora_diffusion import load_adapter
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.models.storage import load_base
from superlora_diffusion.training import denoising, loop, objective
from superlora_diffusion.training.plan import describe_plan


def adapter_file(folder):
    return (folder.adapter / "adapter_model.safetensors").read_bytes()


def metrics(folder, key):
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return {line["step"]: line[key] for line in lines if key in line}


def test_an_adapter_learns_and_the_base_stays_bit_identical(config, train, place):
    train(config(train={"steps": 150, "batch_size": 16, "learning_rate": 3e-2, "lr_schedule": "constant"}))
    losses = list(metrics(train.last.folder, "validation_loss").values())
    assert losses[-1] < 0.97 * losses[0]
    disk = load_base(BaseSettings(path=str(place / "base"))).network.state_dict()
    trained = train.last.base.network.state_dict()
    assert disk.keys() == trained.keys() and all(torch.equal(disk[name], trained[name]) for name in disk)
    numbers = load_file(train.last.folder.adapter / "adapter_model.safetensors")
    assert all(value.abs().max() > 0 for value in numbers.values())
    described = json.loads((train.last.folder.adapter / "adapter_config.json").read_text())
    assert described["training"]["steps"] == 150 and described["base"]["id"] == str(place / "base")
    assert described["data"]["content_hash"] == train.last.data.content_hash


def test_full_training_learns_and_leaves_a_plain_base(config, train):
    train(config(method="full", train={"steps": 60, "batch_size": 16, "learning_rate": 3e-3}))
    losses = list(metrics(train.last.folder, "validation_loss").values())
    assert losses[-1] < 0.8 * losses[0]
    back = load_base(BaseSettings(path=str(train.last.folder.base)))
    assert back.class_names == NAMES and back.null_class == 4
    assert json.loads((train.last.folder.base / "superlora_base.json").read_text())["training"]["steps"] == 60
    held_out = train.last.validation.loss(back.network, torch.device("cpu"))
    assert held_out == pytest.approx(losses[-1], rel=1e-6)


def test_a_base_is_built_from_the_config_with_the_datas_classes(config, train):
    build = {"unet": {**UNET, "block_out_channels": [8, 16]}, "noise_schedule": ZERO_SNR}
    train(config(method="full", base={"path": None, "build": build}))
    back = load_base(BaseSettings(path=str(train.last.folder.base)))
    assert back.class_names == NAMES and back.network.config.num_class_embeds == 5


def test_the_moving_average_is_saved_and_validated(config, train, monkeypatch, place):
    snapshots = []
    step = loop.Trainer._optimise

    def noted(self):
        step(self)
        snapshots.append([parameter.detach().clone() for parameter in self.parameters])

    monkeypatch.setattr(loop.Trainer, "_optimise", noted)
    train(config(train={"steps": 9, "batch_size": 4, "ema_decay": 0.5, "learning_rate": 0.1}))
    average = snapshots[0]  # diffusers starts from the weights after the first step
    for done, weights in enumerate(snapshots[1:], start=1):
        decay = min(0.5, (1 + done) / (10 + done))
        average = [decay * old + (1 - decay) * new for old, new in zip(average, weights, strict=True)]
    saved = load_file(train.last.folder.adapter / "adapter_model.safetensors")
    for name, mine, last in zip(train.last.trainee.parameters, average, snapshots[-1], strict=True):
        torch.testing.assert_close(saved[name], mine, rtol=1e-5, atol=1e-7)
        assert (saved[name] - last).abs().max() > 1e-3
    base = load_base(BaseSettings(path=str(place / "base")))
    load_adapter(base.network, train.last.folder.adapter)
    held_out = train.last.validation.loss(base.network, torch.device("cpu"))
    assert metrics(train.last.folder, "validation_loss")[9] == pytest.approx(held_out, rel=1e-6)


def test_without_a_moving_average_the_weights_are_saved(config, train):
    train(config(train={"steps": 3, "batch_size": 4, "ema_decay": None}))
    saved = load_file(train.last.folder.adapter / "adapter_model.safetensors")
    newest = load_file(train.last.folder.checkpoints / "step-000003" / "weights.safetensors")
    assert all(torch.equal(saved[name], newest[name]) for name in newest)


def test_looking_changes_nothing(config, train):
    often = {"every": 1}
    quiet = {"every": 100}
    train(config("often", validation={**often, "images": 5}, checkpoint=often, preview=often, log=often))
    first = adapter_file(train.last.folder)
    assert len(list(train.last.folder.samples.glob("step-*.png"))) == 6
    train(config("seldom", validation=quiet, checkpoint=quiet, preview={"every": None}, log=quiet))
    assert first == adapter_file(train.last.folder)
    assert not train.last.folder.samples.exists()


def test_the_seed_decides(config, train):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(files))
        train(config(name, seed=seed))
        files.append(adapter_file(train.last.folder))
    assert files[0] == files[1] != files[2]


def test_accumulation_averages_the_gradients_of_its_batches(config, train):
    settings = {"steps": 1, "batch_size": 3, "gradient_accumulation": 2, "max_grad_norm": None}
    made = config(train={**settings, "betas": (0.5, 0.5)})
    train(made)
    saved = load_file(train.last.folder.checkpoints / "step-000001" / "optimizer.safetensors")
    # By hand: a fresh trainer, both batches' losses, one backward of their mean.
    fresh = loop.Trainer(
        config("fresh", train={**settings, "betas": (0.5, 0.5)}),
        loop.RunFolder(made.output + "-fresh"),
        train.last.accelerator,
        loop.StopRequest(),
        loop.Reporter("prepare", 1, "image", quiet=True),
    )
    fresh.network.train()
    ((fresh._loss(0) + fresh._loss(1)) / 2).backward()
    for index, parameter in enumerate(fresh.parameters):
        average = saved[f"{index}.exp_avg"]  # 0.5 of the gradient
        torch.testing.assert_close(2 * average, parameter.grad, rtol=1e-4, atol=1e-9)
    assert max(float(parameter.grad.abs().max()) for parameter in fresh.parameters) > 1e-5


def test_gradients_are_clipped_to_the_norm(config, train):
    train(config(train={"steps": 1, "batch_size": 4, "max_grad_norm": 1e-3, "betas": (0.5, 0.5)}))
    saved = load_file(train.last.folder.checkpoints / "step-000001" / "optimizer.safetensors")
    norm = math.sqrt(sum(float((2 * v).square().sum()) for k, v in saved.items() if k.endswith("exp_avg")))
    assert norm == pytest.approx(1e-3, rel=0.01)


def test_gradient_checkpointing_gives_the_same_numbers(config, train):
    saved = []
    for name, on in (("without", False), ("with", True)):
        train(config(name, train={"steps": 4, "batch_size": 4, "gradient_checkpointing": on}))
        assert train.last.base.network.is_gradient_checkpointing is on
        saved.append(load_file(train.last.folder.adapter / "adapter_model.safetensors"))
    for name, value in saved[0].items():
        torch.testing.assert_close(saved[1][name], value, rtol=1e-4, atol=1e-6)
        assert value.abs().max() > 1e-3


def test_bf16_is_another_arithmetic_with_nearly_the_same_loss(config, train):
    losses = {}
    for precision in ("no", "bf16", "no"):  # one process changes its mind
        train(config(precision + str(len(losses)), train={"batch_size": 16, "mixed_precision": precision}))
        losses[precision + str(len(losses))] = metrics(train.last.folder, "validation_loss")[6]
        numbers = load_file(train.last.folder.adapter / "adapter_model.safetensors")
        assert all(value.dtype == torch.float32 for value in numbers.values())
    first, half, again = losses.values()
    assert first == again != half and half == pytest.approx(first, rel=0.02)


def test_classes_are_dropped_at_the_configs_rate_and_only_in_training(config, train, monkeypatch):
    seen = []
    real = denoising.denoising_loss

    def noted(base, network, images, condition, *rest):
        seen.extend(condition["class_labels"].tolist())
        return real(base, network, images, condition, *rest)

    monkeypatch.setattr(denoising, "denoising_loss", noted)
    train(config(train={"steps": 40, "batch_size": 20, "class_dropout": 0.3}))
    share = seen.count(4) / len(seen)
    assert len(seen) == 800 and set(seen) == {0, 1, 2, 3, 4} and share == pytest.approx(0.3, abs=0.06)
    assert set(train.last.validation.problems[0].condition["class_labels"].tolist()) == {0, 1, 2, 3}


def test_every_epoch_trains_each_image_once(config, train, monkeypatch):
    seen = []
    real = objective.bucket_batches

    def noted(*arguments):
        bucket, chosen = real(*arguments)
        seen.extend(chosen.tolist())
        return bucket, chosen

    monkeypatch.setattr(objective, "bucket_batches", noted)
    train(config(train={"steps": 37, "batch_size": 2, "gradient_accumulation": 2}))
    assert len(seen) == 4 * 37
    assert all(sorted(seen[start : start + 37]) == list(range(37)) for start in range(0, 148, 37))


def test_validation_does_not_depend_on_the_training_batch_size(config, train):
    losses = []
    for batch_size in (2, 7):
        train(config(str(batch_size), train={"steps": 1, "batch_size": batch_size, "warmup_steps": 1}))
        losses.append(metrics(train.last.folder, "validation_loss")[1])  # the first step warms up from 0
    assert losses[0] == losses[1]


def test_unconditional_bases_train(config, train, tmp_path):
    folder = write_base(tmp_path / "free", classes=0)
    train(config(base={"path": str(folder)}, preview={"every": 6}))
    assert adapter_file(train.last.folder)
    with Image.open(train.last.folder.samples / "step-000006.png") as picture:
        assert picture.size == (8 * 50 + 2, 4 * 50 + 2)


@pytest.mark.parametrize("method", ["superlora", "full"])
def test_a_dry_run_counts_what_trains(config, train, method):
    made = config(method=method, adapter={"variant": "lorta", "rank": 3})
    plan = describe_plan(made)
    train(made)
    assert plan["parameters"] == train.last.trainee.count
    if method == "superlora":
        saved = load_file(train.last.folder.adapter / "adapter_model.safetensors")
        assert plan["parameters"] == sum(value.numel() for value in saved.values())
        named = dict(train.last.base.network.named_modules())
        assert plan["target_weights"] == sum(named[t["name"]].weight.numel() for t in plan["targets"])
    assert plan["learning_rate"] == made.learning_rate


def test_the_run_folder_tells_what_was_seen(config, train):
    train(config())
    data = json.loads((train.last.folder.path / "data.json").read_text())
    assert (data["train"]["images"], data["test"]["images"]) == (37, 12)
    assert data["train"]["content_hash"] != data["test"]["content_hash"]
    assert train.last.folder.read_config() == config()
    assert sorted(metrics(train.last.folder, "loss")) == [2, 4, 6]
    assert sorted(metrics(train.last.folder, "validation_loss")) == [3, 6]
    assert all(speed > 0 for speed in metrics(train.last.folder, "steps_per_second").values())


def test_the_logged_loss_is_the_mean_since_the_last_line(config, train):
    train(config("each", log={"every": 1}))
    each = metrics(train.last.folder, "loss")
    train(config("three", log={"every": 3}))
    three = metrics(train.last.folder, "loss")
    assert three == pytest.approx(
        {3: sum(each[i] for i in (1, 2, 3)) / 3, 6: sum(each[i] for i in (4, 5, 6)) / 3}
    )


def test_tensorboard_gets_the_numbers_of_the_metrics(config, train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(config(log={"every": 2, "trackers": ["tensorboard"]}))
    events = EventAccumulator(str(train.last.folder.path / "superlora-diffusion"))
    events.Reload()
    for key in ("loss", "validation_loss", "learning_rate"):
        told = {event.step: event.value for event in events.Scalars(key)}
        assert told == pytest.approx(metrics(train.last.folder, key), rel=1e-5)
