"""The card of an adapted classifier: its accuracies, its head, and Python that names a class."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard
from tiny import NAMES, write_data
from tiny_vit import vit_config, write_vit

from superlora_diffusion.evaluation.accuracy import AccuracyRequest, evaluate_accuracy
from superlora_diffusion.publishing.card import make_card
from superlora_diffusion.publishing.content import read_content
from superlora_diffusion.publishing.push import PushRequest, dry_run
from superlora_diffusion.training.loop import train

from .test_card import execute


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``base`` and the runs ``frozen`` and ``new``, called by what becomes of the head."""
    folder = tmp_path_factory.mktemp("published")
    write_vit(folder / "base")
    write_data(folder / "data.npz")
    for head in ("frozen", "new"):
        sections = {"adapter": {"variant": "lora", "rank": 2}, "classification": {"head": head}}
        base = {"path": str(folder / "base")}
        train(vit_config(folder, output=str(folder / head), base=base, **sections), quiet=True)
        evaluate_accuracy(str(folder / head), AccuracyRequest())
    return folder


def test_a_classifiers_card_speaks_of_classes_and_not_of_images_it_draws(made):
    text = make_card(read_content(str(made / "new")), "user/demo")
    (record,) = (one for one in json.loads((made / "new/accuracy.json").read_text()) if one["parameters"] > 0)
    assert "trained numbers for the image classifier\n" in text
    assert f"| new | npz:data.npz | 256 | 68 | {record['accuracy']:.2%} |" in text
    assert "| Head | 4 classes, 68 numbers of its own, trained beside the adapter |" in text
    for word in ("diffusion model", "superlora-diff sample", "not been scored", "draws", str(made)):
        assert word not in text
    data = ModelCard(text).data
    assert "image-classification" in data.tags and "diffusion" not in data.tags
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", record["accuracy"])
    frozen = make_card(read_content(str(made / "frozen")), "user/demo")
    assert "| base | npz:data.npz | 0 | 0 |" in frozen and len(ModelCard(frozen).data.eval_results) == 1
    assert (
        "| Head | 4 classes, the one of the base |" in frozen
        and "| frozen | npz:data.npz | 256 | 0 |" in frozen
    )
    assert "`task` | classification" in frozen and "peft.targets" not in frozen


@pytest.mark.parametrize("head", ["frozen", "new"])
def test_what_is_published_names_a_class_from_the_hub(made, tmp_path, capsys, head, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dry_run(str(made / head), PushRequest(repo_id="user/demo"), tmp_path / "out")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert ("head.safetensors" in files) == (head == "new") and "accuracy.json" in files
    told = json.loads((tmp_path / "out/accuracy.json").read_text())
    assert {one["base"] for one in told} == {"base"} and str(made) not in json.dumps(told)
    assert execute(tmp_path / "out", made, tmp_path, capsys).strip() in NAMES
