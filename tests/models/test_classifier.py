"""Classifiers: plain folders of transformers, their normalisation and heads, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import NAMES, write_base, write_data
from tiny_vit import SIZES, make_vit, write_vit
from transformers import ViTForImageClassification, ViTImageProcessorPil, ViTModel

from superlora_diffusion import SuperLoRAConfig, attach, find_targets
from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.errors import BaseModelError, ConfigError
from superlora_diffusion.models.classifier import Head
from superlora_diffusion.models.classifier_storage import load_classifier, save_classifier
from superlora_diffusion.models.config import BaseSettings, BuildSettings, VitSettings
from superlora_diffusion.models.images import load_for_classifier
from superlora_diffusion.models.shapes import network_on_meta
from superlora_diffusion.models.storage import load_base
from superlora_diffusion.training.examples import to_unit_range


def load(folder, **settings):
    return load_classifier(BaseSettings(path=str(folder), **settings))


def images(count=5, size=8):
    """uint8 (N, H, W, 3)"""
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def in_unit_range(pictures):
    return to_unit_range(torch.from_numpy(pictures).permute(0, 3, 1, 2))


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_saved_folder_is_transformers_own_and_comes_back_the_same(tmp_path):
    classifier = make_vit()
    save_classifier(classifier, tmp_path / "vit", {"data": {"name": "x"}})
    plain = ViTForImageClassification.from_pretrained(tmp_path / "vit").eval()
    pixels = ViTImageProcessorPil.from_pretrained(tmp_path / "vit")(
        [Image.fromarray(picture) for picture in images()], return_tensors="pt"
    )
    theirs = plain(**pixels).logits
    back = load(tmp_path / "vit")
    for ours in (classifier, back):
        torch.testing.assert_close(ours.logits(in_unit_range(images())), theirs, rtol=1e-5, atol=1e-5)
    assert theirs.std(dim=0).min() > 0.01, "different images get different logits"
    assert plain.config.id2label == dict(enumerate(NAMES)) and back.class_names == NAMES
    assert json.loads((tmp_path / "vit/superlora_base.json").read_text())["data"] == {"name": "x"}


def test_images_are_normalised_as_the_folder_says(tmp_path):
    write_vit(tmp_path / "vit")
    processor = tmp_path / "vit/preprocessor_config.json"
    edit(processor, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.25, 1.0])
    pixels = load(tmp_path / "vit").pixels(in_unit_range(images()))
    expected = (images() / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 1.0]
    np.testing.assert_allclose(pixels.permute(0, 2, 3, 1), expected, atol=1e-5)
    edit(processor, do_normalize=False)
    plain = load(tmp_path / "vit").pixels(in_unit_range(images()))
    np.testing.assert_allclose(plain.permute(0, 2, 3, 1), images() / 255, atol=1e-6)
    processor.unlink()
    halves = load(tmp_path / "vit")
    assert (halves.mean, halves.std) == ((0.5,) * 3, (0.5,) * 3)
    processor.write_text(json.dumps({"image_mean": [0.1, 0.2]}))
    with pytest.raises(BaseModelError, match="image_mean has 2 numbers; 3 are expected"):
        load(tmp_path / "vit")


def test_grey_classifiers_read_grey_images(tmp_path):
    classifier = load(write_vit(tmp_path / "vit", channels=1))
    write_data(tmp_path / "data.npz")
    found = load_for_classifier(classifier, DataConfig(name=f"npz:{tmp_path / 'data.npz'}"), "test")
    assert found.images.shape == (12, 8, 8, 1) and classifier.mean == (0.5,)
    assert classifier.logits(in_unit_range(found.images)).shape == (12, 4)


@pytest.mark.parametrize(("size", "kept"), [(16, 8), (4, 4)])
def test_images_are_shrunk_at_once_and_enlarged_in_the_batch(tmp_path, size, kept):
    classifier = make_vit(image_size=size, patch_size=2)
    write_data(tmp_path / "data.npz")
    found = load_for_classifier(classifier, DataConfig(name=f"npz:{tmp_path / 'data.npz'}"), "train")
    assert found.images.shape == (37, kept, kept, 3) and found.class_names == NAMES
    pixels = classifier.pixels(in_unit_range(found.images))
    assert pixels.shape == (37, 3, size, size)
    pillow = [Image.fromarray(each).resize((size, size), Image.Resampling.BILINEAR) for each in found.images]
    expected = np.stack([np.asarray(each) for each in pillow]) / 127.5 - 1
    np.testing.assert_allclose(pixels.permute(0, 2, 3, 1), expected, atol=1.01 / 127.5)


def test_a_network_without_a_head_has_no_classes(tmp_path):
    classifier = make_vit()
    ViTModel(classifier.network.config).save_pretrained(tmp_path / "headless")
    back = load(tmp_path / "headless")
    assert back.class_names == () and back.classes == 0
    back.put_head(("a", "b", "c"))
    assert back.logits(in_unit_range(images())).shape == (5, 3)
    assert not back.logits(in_unit_range(images())).any(), "a new head starts at zero"
    assert back.network.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_the_head_stays_in_fp32_on_a_coarse_backbone(tmp_path):
    coarse = load(write_vit(tmp_path / "vit"), precision="bf16")
    exact = make_vit().logits(in_unit_range(images()))
    assert coarse.dtype == torch.bfloat16 and isinstance(coarse.head, Head)
    assert coarse.head.weight.dtype == torch.float32
    found = coarse.logits(in_unit_range(images()))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.2, atol=0.3)


def test_an_adapter_goes_to_the_backbone_and_what_is_saved_stays_plain(tmp_path):
    classifier = make_vit()
    plain = classifier.network.state_dict().keys()
    adapter = attach(classifier.adapted, SuperLoRAConfig(variant="lora", rank=2, targets=("all-linear",)))
    assert not any("classifier" in target.name for target in adapter.targets) and len(adapter.targets) == 12
    assert classifier.network.state_dict().keys() == plain
    save_classifier(classifier, tmp_path / "vit")
    assert load(tmp_path / "vit").network.state_dict().keys() == plain


@pytest.mark.parametrize(
    ("targets", "endings"),
    [
        ("qv", {"q_proj", "v_proj"}),
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("attention+mlp", {"q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"}),
    ],
)
def test_presets_know_a_vits_layers_without_its_weights(tmp_path, targets, endings):
    config = SuperLoRAConfig(targets=(targets,))
    folder = write_vit(tmp_path / "vit")
    for base in (BaseSettings(path=str(folder)), BaseSettings(path=None, build={"vit": SIZES})):
        network = network_on_meta(base)
        found = find_targets(network, config)
        assert {target.name.rpartition(".")[2] for target in found} == endings
        assert len(found) == 2 * len(endings) and next(network.parameters()).is_meta
    assert found == find_targets(make_vit().adapted, config)


def test_presets_know_the_names_of_older_versions():
    from superlora_diffusion.adapters.naming import matches

    block = "encoder.layer.0"
    for name, preset in {
        "attention.attention.query": "qv",
        "attention.attention.value": "qv",
        "attention.attention.key": "qkvo",
        "attention.output.dense": "qkvo",
        "intermediate.dense": "attention+mlp",
        "output.dense": "attention+mlp",
    }.items():
        assert matches(f"{block}.{name}", preset), name
    assert not matches(f"{block}.attention.attention.key", "qv")
    parts = ("attention.query", "attention.key", "attention.value", "output.dense")
    found = [
        (matches(f"{block}.attention.{part}", "qk"), matches(f"{block}.attention.{part}", "vo"))
        for part in parts
    ]
    assert found == [(True, False)] * 2 + [(False, True)] * 2
    assert not matches(f"{block}.output.dense", "attention")


def test_what_is_no_vit_is_refused(tmp_path):
    write_vit(tmp_path / "vit")
    edit(tmp_path / "vit/config.json", model_type="resnet")
    with pytest.raises(BaseModelError, match=r"holds a resnet; a ViT of transformers"):
        load(tmp_path / "vit")
    edit(tmp_path / "vit/config.json", model_type="vit", image_size=[8, 16])
    with pytest.raises(BaseModelError, match=r"images of \[8, 16\] px"):
        load(tmp_path / "vit")
    with pytest.raises(BaseModelError, match="is no folder of a classifier"):
        load(tmp_path / "gone")
    with pytest.raises(BaseModelError, match=r"has no config.json of a network of transformers"):
        load(write_base(tmp_path / "unet"))


def test_missing_weights_and_wrong_names_are_told(tmp_path):
    from safetensors.torch import load_file, save_file

    write_vit(tmp_path / "vit")
    with pytest.raises(BaseModelError, match="has 4 classes, but 2 class names were given"):
        load(tmp_path / "vit", class_names=("a", "b"))
    assert load(tmp_path / "vit", class_names=tuple("abcd")).class_names == tuple("abcd")
    file = tmp_path / "vit/model.safetensors"
    tensors = load_file(file)
    del tensors["vit.layernorm.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(BaseModelError, match=r"its files lack vit.layernorm.weight \(1 in all\)"):
        load(tmp_path / "vit")


def test_what_draws_does_not_take_a_classifier(tmp_path):
    with pytest.raises(BaseModelError, match=r"draws no images.*eval-acc"):
        load_base(BaseSettings(path=str(write_vit(tmp_path / "vit"))))


def test_sizes_reach_the_network():
    config = make_vit(mlp_ratio=3, dropout=0.25, channels=1).network.config
    assert (config.image_size, config.patch_size, config.hidden_size, config.num_hidden_layers) == (
        8,
        4,
        16,
        2,
    )
    assert (config.num_attention_heads, config.intermediate_size, config.num_channels) == (2, 48, 1)
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.25


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"image_size": 9, "patch_size": 4}, "patch_size: got 4, which does not divide 9"),
        ({"hidden_size": 10, "heads": 3}, "heads: got 3, which do not divide hidden_size 10"),
        ({"layer": 3}, "unknown name 'layer'"),
    ],
)
def test_sizes_that_do_not_fit_are_told(values, fault):
    with pytest.raises(ConfigError, match=fault):
        VitSettings(**values)


def test_a_fresh_network_is_one_of_two():
    with pytest.raises(ConfigError, match="got both of unet and vit"):
        BuildSettings(unet={}, vit={})
    with pytest.raises(ConfigError, match="got neither of unet and vit"):
        BuildSettings()
