"""``eval-acc``: accuracies against a count by hand, where records go, and which verb scores what."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import NAMES, run_config, write_base, write_data
from tiny_vit import make_vit, vit_config, write_vit
from typer.testing import CliRunner

from superlora_diffusion.cli.main import app
from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.accuracy import AccuracyRequest, accuracy_file, evaluate_accuracy
from superlora_diffusion.evaluation.accuracy_records import read_accuracies
from superlora_diffusion.evaluation.intervals import wilson
from superlora_diffusion.runs.source import open_classifier
from superlora_diffusion.training.examples import to_unit_range
from superlora_diffusion.training.loop import train


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Trained runs: ``kept`` (the base's head), ``new`` (a head of its own), ``full``, and ``drawing`` (a denoiser)."""
    folder = tmp_path_factory.mktemp("place")
    write_vit(folder / "vit")
    write_vit(folder / "other", ("a", "b", "c"))
    write_base(folder / "base")
    write_data(folder / "data.npz")
    write_data(folder / "more.npz", test=20)
    for name, more in {
        "kept": {},
        "new": {"base": {"path": str(folder / "other")}},
        "full": {"method": "full"},
    }.items():
        train(vit_config(folder, output=str(folder / name), **more), "cpu", quiet=True)
    train(run_config(folder, output=str(folder / "drawing"), train={"steps": 1}), "cpu", quiet=True)
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(place, tmp_path, monkeypatch):
    """No test sees the records of another, and what has no run folder writes into the current one."""
    monkeypatch.chdir(tmp_path)
    yield
    for file in place.rglob("accuracy.json"):
        file.unlink()


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def images_of(place, name="data"):
    data = np.load(place / f"{name}.npz")
    rows = data["split"] == 1
    return to_unit_range(torch.from_numpy(data["images"][rows]).permute(0, 3, 1, 2)), data["labels"][rows]


@torch.no_grad()
def by_hand(classifier, place, name="data"):
    """Accuracy of all, of each class, and mean loss."""
    images, labels = images_of(place, name)
    logits = classifier.logits(images).double().numpy()
    right = logits.argmax(1) == labels
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    return right.mean(), {NAMES[label]: right[labels == label].mean() for label in range(4)}, losses.mean()


@pytest.mark.parametrize("name", ["kept", "new"])
def test_accuracies_are_those_counted_by_hand(place, name):
    records = evaluate_accuracy(str(place / name), AccuracyRequest())
    assert [record.name for record in records] == (["base", "kept"] if name == "kept" else ["new"])
    source = open_classifier(str(place / name))
    share, classes, loss = by_hand(source.base, place)
    found = records[-1]
    assert found.accuracy == share and found.loss == pytest.approx(loss, rel=1e-5) and found.n == 12
    assert {one.name: one.accuracy for one in found.classes} == classes
    assert {one.name: one.n for one in found.classes} == dict.fromkeys(NAMES, 3)
    assert found.accuracy_interval == wilson(share, 12)
    assert (found.parameters, found.head_parameters) == (256, 0 if name == "kept" else 68)
    assert read_accuracies(place / name / "accuracy.json") == records
    if name == "kept":
        assert records[0].loss == pytest.approx(by_hand(make_vit(), place)[2], rel=1e-5) != found.loss
        assert (records[0].parameters, records[0].head_parameters) == (0, 0)


def test_a_fully_trained_network_cost_all_its_weights(place):
    (record,) = evaluate_accuracy(str(place / "full"), AccuracyRequest())
    total = sum(value.numel() for value in make_vit().network.parameters())
    assert (record.name, record.parameters, record.head_parameters) == ("full", total, 0)
    with pytest.raises(EvaluationError, match="full has no base beside it"):
        evaluate_accuracy(str(place / "full"), AccuracyRequest(only="base"))


def test_other_data_and_a_base_alone(place):
    more = f"npz:{place / 'more.npz'}"
    records = evaluate_accuracy(str(place / "vit"), AccuracyRequest(data=more))
    share, classes, _ = by_hand(make_vit(), place, "more")
    assert (records[0].name, records[0].n, records[0].accuracy, records[0].parameters) == (
        "vit",
        20,
        share,
        0,
    )
    assert {one.name: one.accuracy for one in records[0].classes} == classes
    assert accuracy_file(str(place / "vit")) == Path("scores-vit/accuracy.json")
    assert read_accuracies(Path("scores-vit/accuracy.json")) == records
    with pytest.raises(
        EvaluationError, match="vit does not say which data it was trained on; give it by --data"
    ):
        evaluate_accuracy(str(place / "vit"), AccuracyRequest())
    (again,) = evaluate_accuracy(str(place / "full/base"), AccuracyRequest())
    assert again.data.endswith("data.npz"), "a base that was trained here says its data"


def test_an_adapter_folder_is_opened_with_its_head_and_data(place):
    (found,) = evaluate_accuracy(str(place / "new/adapter"), AccuracyRequest())
    (of_run,) = evaluate_accuracy(str(place / "new"), AccuracyRequest())
    assert (found.accuracy, found.loss, found.head_parameters) == (of_run.accuracy, of_run.loss, 68)
    assert found.name == "adapter"


def test_nothing_is_scored_twice_unless_it_changed(place):
    counted = []

    def score(**asked):
        evaluate_accuracy(
            str(place / "kept"), AccuracyRequest(**asked), lambda name, count: counted.append(name)
        )
        return [counted.pop() for _ in range(len(counted))][::-1]

    assert score() == ["base", "kept"]
    assert score() == [] and score(again=True) == ["base", "kept"]
    assert score(data=f"npz:{place / 'more.npz'}", only="adapter") == ["kept"]
    assert len(read_accuracies(place / "kept/accuracy.json")) == 3, "of each model on each data set"
    write_vit(place / "copy")
    assert score(base=str(place / "copy"), only="base") == ["base"]


def test_verbs_send_to_each_other(place):
    for words in (
        ("eval-is", place / "kept"),
        ("eval-is", place / "full"),
        ("sample", place / "kept"),
        ("sample", place / "new/adapter"),
    ):
        result = call(*words)
        assert result.exit_code == 1 and "eval-acc" in result.stderr, words
    for path in (place / "drawing", place / "drawing/adapter"):
        result = call("eval-acc", path)
        assert result.exit_code == 1 and f"superlora-diff eval-is {path}" in result.stderr
    result = call("eval-acc", place / "base", "--data", "digits")
    assert result.exit_code == 1 and "is no classifier" in result.stderr


def test_a_merged_classifier_is_scored_as_its_adapter_was(place, tmp_path):
    for verb in (("merge",), ("export", "--format", "merged")):
        result = call(verb[0], place / "kept", *verb[1:], "--out", tmp_path / verb[0])
        assert result.exit_code == 0, result.stderr
        data = f"npz:{place / 'data.npz'}"
        (merged,) = evaluate_accuracy(str(tmp_path / verb[0]), AccuracyRequest(data=data))
        (adapted,) = evaluate_accuracy(str(place / "kept"), AccuracyRequest(only="adapter"))
        assert merged.loss == pytest.approx(adapted.loss, rel=1e-4) and merged.accuracy == adapted.accuracy
    assert (
        call("export", place / "kept", "--format", "kohya", "--out", tmp_path / "a.safetensors").exit_code
        == 2
    )


def test_eval_is_records_are_left_alone(place):
    scores = place / "kept/scores.json"
    scores.write_text("[]\n")
    assert call("eval-acc", place / "kept", "--quiet").exit_code == 0
    assert scores.read_text() == "[]\n"
    scores.unlink()


def test_the_command_prints_tables_and_json(place):
    result = call("eval-acc", place / "new", place / "kept")
    records = json.loads(call("eval-acc", place / "new", place / "kept", "--json").stdout)
    assert [record["name"] for record in records] == ["new", "base", "kept"]
    assert f"{records[0]['accuracy']:.2%}" in result.stdout and "68" in result.stdout
    assert "birch" in result.stdout and f"Records: {place / 'new/accuracy.json'}" in result.stdout
    wrong = call("eval-acc", place / "new", "--data", "mnits")
    assert wrong.exit_code == 2 and "no data set is called 'mnits'" in wrong.stderr
    unfit = call("eval-acc", place / "new", "--data", "digits")
    assert unfit.exit_code == 1 and "the base has 4" in unfit.stderr


def test_a_damaged_file_is_told(place):
    (place / "kept/accuracy.json").write_text('[{"name": 3}]')
    with pytest.raises(EvaluationError, match=r"no accuracies could be read .*delete a damaged file"):
        evaluate_accuracy(str(place / "kept"), AccuracyRequest())


def test_of_many_classes_the_worst_are_shown():
    from superlora_diffusion.evaluation.accuracy_records import AccuracyRecord, ClassAccuracy
    from superlora_diffusion.evaluation.accuracy_table import classes_table

    classes = tuple(ClassAccuracy(name=f"c{i}", accuracy=1 - i / 40, n=1) for i in range(30))
    record = AccuracyRecord(
        name="x", parameters=1, head_parameters=0, accuracy=0.5, accuracy_interval=(0, 1), loss=1.0, n=30,
        classes=classes, data="d", data_hash="h", base="b", weights="w",
    )  # fmt: skip
    table = classes_table([record])
    assert list(table.columns[0].cells) == [f"c{i}" for i in range(29, 9, -1)]
    assert "20 worst of 30" in table.caption
