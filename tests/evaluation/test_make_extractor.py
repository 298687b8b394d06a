"""A user's own extractor: it learns, is written whole, is loaded with its classes, and is what its card says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny import NAMES, write_data

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.errors import ConfigError, DataError, EvaluationError
from superlora_diffusion.evaluation import make_extractor as module
from superlora_diffusion.evaluation.digits_net import INPUT_SIZE, DigitsNet
from superlora_diffusion.evaluation.extractor_training import (
    TrainingOptions,
    as_pictures,
    draw_junk,
    loss_on,
    perturbed,
    shuffle_patches,
)
from superlora_diffusion.evaluation.extractors import load_extractor
from superlora_diffusion.evaluation.make_extractor import make_extractor
from superlora_diffusion.evaluation.trained_extractor import CARD, WEIGHTS

FEW = TrainingOptions(steps=3, batch=8, junk=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return DataConfig(name=f"npz:{write_data(tmp_path_factory.mktemp('data') / 'data.npz')}")


@pytest.fixture(scope="module")
def trees(tmp_path_factory, data):
    """An extractor of the tiny data's four classes."""
    folder = tmp_path_factory.mktemp("extractors") / "trees"
    make_extractor(data, folder, FEW)
    return folder


def stripes(path):
    """200 pictures of 12 pixels: lines across, upright, or at a slant, anywhere and of any thickness."""
    generator = np.random.default_rng(0)
    rows, columns = np.indices((12, 12))
    labels = np.arange(200) % 3
    images = []
    for label in labels:
        place = (rows, columns, rows + columns)[label] + generator.integers(0, 6)
        images.append(255 * (place % 6 < generator.integers(2, 4)))
    split = np.arange(200) >= 150
    np.savez(path, images=np.array(images, dtype=np.uint8), labels=labels, split=split.astype(int))
    return DataConfig(name=f"npz:{path}")


def test_it_learns_and_the_card_says_how_well(tmp_path):
    steps = []
    card, trained = make_extractor(
        stripes(tmp_path / "stripes.npz"),
        tmp_path / "mine",
        TrainingOptions(steps=60, batch=32, junk=4),
        lambda step, loss: steps.append((step, loss)),
    )
    assert trained and [step for step, _ in steps] == list(range(1, 61))
    assert steps[-1][1] < 0.7 * steps[0][1]
    held_out = card["held_out"]
    assert held_out["images"] == 50 and held_out["clean"] > 0.9 and held_out["perturbed"] > 0.7
    extractor = load_extractor(str(tmp_path / "mine"), class_names=["0", "1", "2"])
    assert card == json.loads((tmp_path / "mine" / CARD).read_text())
    assert (extractor.name, extractor.hash, extractor.num_classes) == ("mine", card["hash"], 3)
    with np.load(tmp_path / "stripes.npz") as stored:
        test = stored["split"] == 1
        images = np.repeat(stored["images"][test][:, None], 3, axis=1)
        right = extractor.features(images)[1].argmax(1).numpy() == stored["labels"][test]
    assert right.mean() == pytest.approx(
        held_out["clean"], abs=0.041
    )  # resized by Pillow there, by torch here


def test_seed_and_data_decide_about_the_weights(data, trees, tmp_path):
    before = torch.random.get_rng_state()
    torch.manual_seed(99)
    same, _ = make_extractor(data, tmp_path / "trees", FEW)
    other, _ = make_extractor(data, tmp_path / "other", TrainingOptions(steps=3, batch=8, junk=4, seed=1))
    torch.random.set_rng_state(before)
    assert same == json.loads((trees / CARD).read_text())
    assert (trees / WEIGHTS).read_bytes() == (tmp_path / "trees" / WEIGHTS).read_bytes()
    assert other["hash"] != same["hash"]


def test_the_same_again_is_found_and_nothing_else_is_overwritten(data, trees, tmp_path):
    stamp = (trees / WEIGHTS).stat().st_mtime_ns
    card, trained = make_extractor(data, trees, FEW)
    assert not trained and card["hash"] and (trees / WEIGHTS).stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match=r"differs in: training\. Give another folder"):
        make_extractor(data, trees, TrainingOptions(steps=4, batch=8, junk=4))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is no extractor"):
        make_extractor(data, tmp_path / "mine", FEW)
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("when", ["training", "measuring"])
def test_an_interruption_leaves_nothing(data, tmp_path, monkeypatch, when):
    def interrupt(*args):
        raise KeyboardInterrupt

    if when == "measuring":
        monkeypatch.setattr(module, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_extractor(
            data, tmp_path / "x", FEW, interrupt if when == "training" else lambda step, loss: None
        )
    assert list(tmp_path.iterdir()) == []


def test_accuracy_is_told_only_where_the_classes_are_the_datas(trees):
    assert load_extractor(str(trees), class_names=NAMES).predicts_labels
    for others in (NAMES[::-1], (*NAMES, "elm"), None):
        assert not load_extractor(str(trees), class_names=others).predicts_labels
    with pytest.raises(ConfigError, match="brings its weights"):
        load_extractor(str(trees), path="x.pth")


@pytest.mark.parametrize("damage", ["no card", "no json", "no weights", "other net", "other preparation"])
def test_damaged_folders_are_refused(trees, tmp_path, damage):
    card = json.loads((trees / CARD).read_text())
    if damage == "other net":
        card["class_names"] = card["class_names"][:3]
    if damage == "other preparation":
        card["preprocessing"] += "!"
    if damage != "no card":
        (tmp_path / CARD).write_text("{" if damage == "no json" else json.dumps(card))
    if damage != "no weights":
        (tmp_path / WEIGHTS).write_bytes((trees / WEIGHTS).read_bytes())
    with pytest.raises(EvaluationError, match=r"extractor train"):
        load_extractor(str(tmp_path))


def test_one_class_or_no_data_is_refused(tmp_path):
    images = np.zeros((8, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "one.npz", images=images, labels=np.zeros(8, dtype=int))
    with pytest.raises(EvaluationError, match="the one class '0'"):
        make_extractor(DataConfig(name=f"npz:{tmp_path}/one.npz"), tmp_path / "x", FEW)
    with pytest.raises(DataError):
        make_extractor(DataConfig(name=f"npz:{tmp_path}/gone.npz"), tmp_path / "x", FEW)


def test_the_loss_is_cross_entropy_as_sure_as_told():
    torch.manual_seed(0)
    net = DigitsNet(4).eval()
    pictures, junk = torch.rand(3, 3, 16, 16), torch.rand(2, 3, 16, 16)
    labels, sure = torch.tensor([0, 3, 1]), torch.tensor([1.0, 0.8, 0.5])
    logits = net((torch.cat([pictures, junk]) * 255).round().to(torch.uint8))[1].double()
    wanted = torch.full((5, 4), 0.25, dtype=torch.float64)
    for row, (label, share) in enumerate(zip(labels, sure, strict=True)):
        wanted[row] = (1 - share) / 4
        wanted[row, label] += share
    expected = -(wanted * logits.log_softmax(1)).sum(1).mean()
    assert loss_on(net, pictures, labels, sure, junk).item() == pytest.approx(expected.item(), rel=1e-2)


def test_junk_shows_the_strokes_and_not_the_picture():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(6, 3, 16, 16, generator=generator)
    mixed = shuffle_patches(pictures, generator)
    assert not torch.equal(mixed, pictures)
    torch.testing.assert_close(mixed.flatten(1).sort().values, pictures.flatten(1).sort().values)
    assert draw_junk(pictures, 7, generator).shape == (7, 3, 16, 16)


def test_held_out_pictures_are_perturbed_the_same_way_every_time(data):
    from superlora_diffusion.data.loading import load_image_set

    large, labels = as_pictures(load_image_set(data, "test"), 32)
    assert large.shape == (12, 3, 32, 32) and len(labels) == 12
    assert (
        torch.equal(perturbed(large, 3), perturbed(large, 3)) and perturbed(large, 3).shape[-1] == INPUT_SIZE
    )
    assert not torch.equal(perturbed(large, 3), perturbed(large, 4))
