"""Task classification: what trains beside what, the loss, held-out accuracy, and that runs go on exactly."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny import write_data
from tiny_vit import SIZES, make_vit, vit_config, write_vit

from superlora_diffusion.adapters import count_parameters, find_targets
from superlora_diffusion.errors import ConfigError, DataError
from superlora_diffusion.models import labelled
from superlora_diffusion.models.classifier_storage import load_classifier
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.runs.source import open_classifier
from superlora_diffusion.training import classification, loop
from superlora_diffusion.training.plan import describe_plan
from superlora_diffusion.training.untrained import untrained_loss

from .test_resume import everything, interrupted  # noqa: F401

OTHER = ("a", "b", "c")
METHODS = {
    "superlora": {},
    "lorta": {"adapter": {"variant": "lorta", "rank": 2}},
    "bitfit": {"method": "bitfit"},
    "norms": {"method": "norms"},
    "peft": {"method": "peft", "peft": {"options": {"r": 2}}},
    "lycoris": {"method": "lycoris", "lycoris": {"algo": "loha", "options": {"lora_dim": 2}}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with classifiers (``vit`` of the data's classes, ``other`` of others) and data."""
    folder = tmp_path_factory.mktemp("place")
    write_vit(folder / "vit")
    write_vit(folder / "other", OTHER)
    write_data(folder / "data.npz")
    return folder


@pytest.fixture
def config(place, tmp_path):
    def make(name="run", base="vit", **sections):
        settings = base if isinstance(base, dict) else {"path": str(place / base)}
        return vit_config(place, output=str(tmp_path / name), base=settings, **sections)

    return make


def lines(folder, key):
    found = map(json.loads, folder.metrics.read_text().splitlines())
    return {line["step"]: line[key] for line in found if key in line}


def adapter_config(folder):
    return json.loads((folder.adapter / "adapter_config.json").read_text())


@pytest.mark.parametrize("base", ["vit", "other"])
@pytest.mark.parametrize("method", METHODS)
def test_what_was_trained_is_what_is_opened(train, config, base, method):
    run = config(base=base, train={"steps": 12}, validation={"every": 12, "images": 12}, **METHODS[method])
    assert train(run) and not train(run)
    folder, trainee = train.last.folder, train.last.trainee
    source = open_classifier(run.output)
    found = classification.held_out_images(run, source.base, torch.device("cpu"))
    with source.adapter.cached():
        again = found.measure(source.base.network, torch.device("cpu"))
    for name, value in again.items():
        assert lines(folder, name)[12] == pytest.approx(value, rel=1e-5), name
    head = 0 if base == "vit" else 4 * 16 + 4
    assert (trainee.count, trainee.head_count) == (source.adapter.num_parameters, head)
    told = adapter_config(folder)
    assert told["parameters"] == trainee.count
    assert told["classification"] == {"class_names": list(source.base.class_names), "head_parameters": head}
    with source.adapter.disabled():
        assert found.measure(source.base.network, torch.device("cpu")) != again, "the adapter does something"


def test_with_the_bases_classes_its_head_stays_and_an_adapter_alone_trains(train, config, place):
    run = config()
    train(run)
    trained, before = train.last.base.network.state_dict(), make_vit().network.state_dict()
    assert all(torch.equal(trained[name], before[name]) for name in before)
    adapter = run.adapter
    assert adapter.targets == ("qv",)
    count = count_parameters(adapter, find_targets(make_vit().adapted, adapter))
    assert train.last.trainee.count == count == 4 * 2 * (16 + 16)
    assert [path.name for path in sorted(train.last.folder.adapter.iterdir())] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_new_head_trains_beside_the_adapter_at_its_own_rate_and_lies_in_its_own_file(train, config):
    run = config(base="other", classification={"head_learning_rate": 0.5}, train={"lr_schedule": "constant"})
    train(run)
    groups = train.last.optimizer.param_groups
    assert [group["lr"] for group in groups] == [run.learning_rate, 0.5]
    head = load_file(train.last.folder.adapter / "head.safetensors")
    assert {name: tuple(value.shape) for name, value in head.items()} == {"weight": (4, 16), "bias": (4,)}
    assert all(value.abs().max() > 0.1 for value in head.values()), "it starts at zero, at a rate of 0.5"
    own = load_file(train.last.folder.adapter / "adapter_model.safetensors")
    assert sum(value.numel() for value in own.values()) == train.last.trainee.count == 256
    checkpoint = train.last.folder.checkpoints / "step-000006" / "weights.safetensors"
    assert {"head.weight", "head.bias"} < load_file(checkpoint).keys()


def test_the_heads_wishes(train, config, place):
    own = make_vit().network.classifier.weight
    for wish, changed, kept in (("train", True, True), ("new", True, False), ("frozen", False, True)):
        train(config(wish, classification={"head": wish}))
        weight = train.last.base.head.weight
        assert torch.equal(weight, own) is not changed, wish
        assert bool((weight - own).abs().max() < 0.02) is kept, wish
        assert train.last.trainee.head_count == (68 if changed else 0)
        wants = {id(value) for value in train.last.base.network.parameters() if value.requires_grad}
        assert wants == {id(value) for value in train.last.trainee.parameters.values()}, (
            "no gradient is for nothing"
        )


def test_a_class_map_leads_to_the_bases_classes(train, config):
    mapped = {"class_map": {"ash": 0, "birch": 1, "cedar": 2, "oak": 2}}
    train(config(base="other", data=mapped))
    assert train.last.trainee.head_count == 0 and train.last.base.class_names == OTHER
    assert set(train.last.task.labels.tolist()) == {0, 1, 2}
    with pytest.raises(ConfigError, match=r"data.class_map: says which of the base's classes"):
        train(config("new", base="other", data=mapped, classification={"head": "new"}))
    with pytest.raises(
        DataError, match=r"has 4 classes \(ash, birch, cedar, oak\), the base has 3 \(a, b, c\)"
    ):
        train(config("frozen", base="other", classification={"head": "frozen"}))


def test_a_base_without_a_head_gets_one(train, config, tmp_path):
    from transformers import ViTModel

    ViTModel(make_vit().network.config).save_pretrained(tmp_path / "headless")
    base = {"path": str(tmp_path / "headless")}
    train(config(base=base))
    assert train.last.trainee.head_count == 68
    with pytest.raises(ConfigError, match=r"classification.head: got 'frozen', but base .* has no head"):
        train(config("frozen", base=base, classification={"head": "frozen"}))


def test_a_fresh_network_learns_the_colours_and_is_a_plain_base(train, config):
    run = config(
        method="full",
        base={"path": None, "build": {"vit": SIZES}},
        train={"steps": 80, "learning_rate": 5e-3, "batch_size": 16, "ema_decay": None},
        validation={"every": 40, "images": 12},
    )
    train(run)
    losses = lines(train.last.folder, "validation_loss")
    assert untrained_loss(run, "cpu") > losses[40] > 1.5 * losses[80]
    assert lines(train.last.folder, "validation_accuracy")[80] == 1
    back = load_classifier(BaseSettings(path=str(train.last.folder.base)))
    held_out = train.last.validation.measure(back.network, torch.device("cpu"))
    assert held_out["validation_loss"] == pytest.approx(losses[80], rel=1e-5)
    assert train.last.folder.is_finished(run) and not train(run)


def test_method_full_trains_a_new_head_with_all_else(train, config):
    train(config(base="other", method="full"))
    total = sum(value.numel() for value in train.last.base.network.parameters())
    assert (train.last.trainee.count, train.last.trainee.head_count) == (total, 0)
    assert load_classifier(BaseSettings(path=str(train.last.folder.base))).class_names[:2] == ("ash", "birch")


def test_the_loss_is_cross_entropy_of_its_batch(train, config):
    smoothing = {"label_smoothing": 0.3}
    train(config(classification=smoothing, data={"augment": {"shift": 2}}))
    task, network = train.last.task, train.last.base.network.eval()
    chosen = classification.batch_indices(37, 4, 5, 0, 0, 1)
    generator = classification.generator_for("augment", 0, 0, 5)
    images = task.images.draw(chosen, generator)
    assert not torch.equal(images, task.images.still(chosen)), "augmented"
    logs = F.log_softmax(task.base.logits(images), dim=1)
    target = F.one_hot(task.labels[chosen], 4) * 0.7 + 0.3 / 4
    expected = -(target * logs).sum(dim=1).mean()
    torch.testing.assert_close(task.loss(network, 5, 0, 1), expected)
    assert task.loss(network, 6, 0, 1) != task.loss(network, 5, 0, 1) != task.loss(network, 5, 1, 2)
    assert torch.equal(task.loss(network, 5, 0, 1), task.loss(network, 5, 0, 1))


def test_held_out_measures_are_those_of_the_images_one_by_one(train, config, monkeypatch):
    train(config())
    task, network = train.last.task, train.last.base.network
    network.train()
    device = torch.device("cpu")
    found = task.validation.measure(network, device)
    assert network.training
    test = classification.load_for_classifier(task.base, train.last.config.data, "test")
    chosen = torch.linspace(0, 11, 10).round().long()
    images, labels = (
        classification.Pixels(test.images, None).still(chosen),
        torch.from_numpy(test.labels)[chosen],
    )
    with torch.no_grad():
        logits = task.base.logits(images, network.eval())
    assert found["validation_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found["validation_accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    monkeypatch.setattr(labelled, "CHUNK", 3)
    assert task.validation.measure(network, device)["validation_loss"] == pytest.approx(
        found["validation_loss"]
    )


def test_a_new_head_knows_nothing_before_it_trains(config):
    assert untrained_loss(config(base="other"), "cpu") == pytest.approx(math.log(4), rel=1e-6)


def test_going_on_ends_where_a_whole_run_does(train, interrupted, config):  # noqa: F811
    run = {"base": "other", "checkpoint": {"every": 2}, "data": {"augment": {"shift": 1}}}
    train(config("whole", **run))
    whole = everything(train.last.folder.path)
    interrupted(config("parts", **run), 3)
    train(config("parts", **run))
    assert everything(train.last.folder.path) == whole


def test_the_best_step_is_kept_by_accuracy(train, config):
    train(config(base="other", evaluation={"best_by": "validation_accuracy"}, validation={"every": 1}))
    found = lines(train.last.folder, "validation_accuracy")
    best = json.loads((train.last.folder.best / "best.json").read_text())
    assert best["score"] == max(found.values()) and best["step"] == min(
        step for step, value in found.items() if value == max(found.values())
    )
    assert (train.last.folder.best / "head.safetensors").is_file()


def test_gradient_checkpointing_changes_nothing(train, config):
    files = []
    for on in (False, True):
        train(config(f"run{on}", base="other", train={"gradient_checkpointing": on}))
        network = train.last.base.network
        assert any(getattr(each, "gradient_checkpointing", False) for each in network.modules()) is on
        files.append(load_file(train.last.folder.adapter / "adapter_model.safetensors"))
    for name, value in files[0].items():
        torch.testing.assert_close(value, files[1][name])


def test_previews_are_not_drawn_and_counts_are_told(train, config, capsys):
    run = config(base="other", preview={"every": 3})
    loop.train(run, "cpu")
    assert not (loop.RunFolder(run.output).samples).exists()
    told = capsys.readouterr().err
    assert "Training 256 numbers (the adapter) and 68 of the head, learning rate 0.02" in told
    assert re.search(r"step 6: validation loss \d\.\d+, validation accuracy [01]\.\d+\n", told)


def test_the_plan_counts_adapter_and_head(config):
    plan = describe_plan(config(base="other"))
    assert (plan["parameters"], plan["head_parameters"], len(plan["targets"])) == (256, 68, 4)
    assert plan["targets"][0]["name"] == "layers.0.attention.q_proj"
    assert describe_plan(config())["head_parameters"] == 0
    peer = describe_plan(config(base="other", **METHODS["bitfit"]))
    assert (peer["parameters"], peer["head_parameters"]) == (16 * 2 * 9 + 16 * 2 * 3, 68)


FAULTS = {
    "base.path": {"base": {"path": "synthdigits-16"}},
    "base.build.unet": {"method": "full", "base": {"path": None, "build": {"unet": {}}}},
    "base.text_encoders": {"base": {"text_encoders": True}},
    "base.null_class": {"base": {"null_class": 1}},
    "data.buckets": {"data": {"buckets": True}},
    "data.resolution": {"data": {"resolution": 16}},
    "train.min_snr_gamma": {"train": {"min_snr_gamma": 5}},
    "train.prior": {"train": {"prior": {"prompt": "a dog"}}},
    "evaluation.every": {"evaluation": {"every": 2}},
    "method": {"method": "difffit"},
    "classification.head": {"method": "full", "classification": {"head": "frozen"}},
}


@pytest.mark.parametrize("key", FAULTS)
def test_settings_that_a_classifier_cannot_have_are_told(key):
    values = {"output": "x", "task": "classification", "base": {"path": "some/vit"}}
    assert RunConfig(**values).classifies
    with pytest.raises(ConfigError) as caught:
        RunConfig(**{**values, **{name: {**values.get(name, {}), **part} if isinstance(part, dict) else part
                                  for name, part in FAULTS[key].items()}})  # fmt: skip
    assert [path for path, _ in caught.value.faults] == [key]


def test_a_denoiser_is_not_told_what_is_a_classifiers():
    for section in (
        {"evaluation": {"best_by": "validation_accuracy"}},
        {"method": "full", "base": {"path": None, "build": {"vit": SIZES}}},
    ):
        with pytest.raises(ConfigError, match="task"):
            RunConfig(output="x", **section)


def test_targets_are_a_classifiers_own_unless_they_are_said():
    values = {"output": "x", "task": "classification", "base": {"path": "some/vit"}}
    config = RunConfig(**values, adapter={"rank": 3}, peft={"targets": ["fc1"]})
    assert (config.adapter.targets, config.adapter.rank) == (("qv",), 3)
    assert (config.peft.targets, config.lycoris.targets) == (("fc1",), ("qv",))
    assert RunConfig(**config.model_dump()) == config
    assert RunConfig(output="x").adapter.targets == ("to_q", "to_v")
