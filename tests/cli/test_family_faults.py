"""Mistakes that users make with families: each is a message, and none a traceback."""

from __future__ import annotations

import json
import shutil

import pytest
from diffusers import UNet2DConditionModel

from .family_runs import KINDS, LATENT, TEXT, asking, refused


@pytest.fixture
def copied(runs, tmp_path):
    """A copy of a kind's base that a test may spoil."""

    def copy(kind):
        shutil.copytree(runs[kind].base, tmp_path / "base")
        return tmp_path / "base"

    return copy


def told_by_train(runs, kind, tmp_path, *words):
    text = refused("train", "--config", runs[kind].config, f"output={tmp_path / 'run'}", *words)
    assert not list((tmp_path / "run").glob("*.jsonl")), "nothing was trained"
    return text


def told_by_sample(source, tmp_path, *words):
    return refused("sample", source, *words, "--count", 1, "--steps", 1, "--out", tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_is_asked_for_what_it_knows(runs, kind, tmp_path):
    base = runs[kind].base
    if kind in TEXT:
        assert "knows no classes; ask for images by --prompt" in told_by_sample(
            base, tmp_path, "--classes", "1"
        )
        assert "say what to draw by --prompt" in told_by_sample(base, tmp_path)
        return
    said = "takes no prompts; choose --classes"
    assert said in told_by_sample(base, tmp_path, "--prompt", "a red dot")
    assert said in told_by_sample(base, tmp_path, "--negative-prompt", "blur")
    wrong = "is unconditional" if kind == "unconditional" else "class 'zebra' is unknown"
    assert wrong in told_by_sample(base, tmp_path, "--classes", "zebra")


@pytest.mark.parametrize("kind", LATENT)
def test_a_pipeline_without_its_autoencoder(runs, kind, copied, tmp_path):
    base = copied(kind)
    shutil.rmtree(base / "vae")
    said = f"{base} has no vae/, which a network like this needs beside it"
    assert said in told_by_train(runs, kind, tmp_path, f"base.path={base}")
    assert said in told_by_sample(base, tmp_path, *asking(kind))


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder"])
@pytest.mark.parametrize("kind", TEXT)
def test_a_pipeline_without_a_part_that_reads(runs, kind, part, copied, tmp_path):
    base = copied(kind)
    shutil.rmtree(base / part)
    said = f"{base} has no {part}/"
    assert said in told_by_sample(base, tmp_path, "--prompt", "a prompt of its own")
    assert said in told_by_train(runs, kind, tmp_path, f"base.path={base}")


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def write_inpainting(base):
    config = dict(UNet2DConditionModel.load_config(base / "unet"))
    UNet2DConditionModel.from_config({**config, "in_channels": 9}).save_pretrained(base / "unet")


def damage(base):
    (base / "text_encoder" / "model.safetensors").write_bytes(b"cut")


SPOILT = {
    "inpainting": (
        write_inpainting,
        "A base for inpainting or editing takes further channels: use the plain one",
    ),
    "quantised": (
        lambda base: change(
            base / "unet" / "config.json", quantization_config={"quant_method": "bitsandbytes"}
        ),
        "is quantised, and the update of a weight cannot be added to packed numbers",
    ),
    "no index": (lambda base: (base / "model_index.json").unlink(), "has no model_index.json"),
    "no schedule": (lambda base: shutil.rmtree(base / "scheduler"), "its noise schedule is unknown"),
    "damaged encoder": (damage, "cannot be loaded"),
    "another library's": (
        lambda base: change(base / "unet" / "config.json", _class_name="FluxTransformer2DModel"),
        "which no family here drives. Accepted: ",
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_base_that_cannot_be_used(runs, what, copied, tmp_path):
    spoil, said = SPOILT[what]
    base = copied("sd")
    spoil(base)
    assert said in told_by_train(runs, "sd", tmp_path, f"base.path={base}", "data.caption_column=text")


@pytest.mark.parametrize(
    ("kind", "setting", "said"),
    [
        ("ddpm", "data.resolution=16", "works on images of 8 px alone"),
        ("ddpm", "data.buckets=true", "takes squares of 8 px alone"),
        ("dit", "data.buckets=true", "takes squares of 16 px alone"),
        ("dit", "base.text_encoders=true", "takes no text, so base.text_encoders has nothing to adapt"),
        ("sd3", "data.resolution=24", "works on sides of 16 px at most"),
        ("sd3", "train.min_snr_gamma=5", "learns flow matching, which has no such weights"),
        ("sd", "data.class_map={image: 0}", "a base that reads text has no classes"),
        ("sd", "base.variant=fp16", "no file named diffusion_pytorch_model.fp16"),
        ("sd", "adapter.targets=[to_z]", "to_z"),
    ],
)
def test_settings_that_do_not_fit_a_family(runs, kind, setting, said, tmp_path):
    assert said in told_by_train(runs, kind, tmp_path, setting)


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        ("sd", (17, 16), "sampling.height is 17; base"),
        ("dit", (16, 20), "works on squares alone"),
        ("sd3", (16, 32), "works on sides of 16 px at most"),
    ],
)
def test_sizes_that_a_network_cannot_draw(runs, kind, size, said, tmp_path):
    words = ["--height", size[0], "--width", size[1]]
    assert said in told_by_sample(runs[kind].base, tmp_path, *asking(kind), *words)


def test_captions_that_are_missing(runs, tmp_path):
    shutil.copytree(runs["sd"].place / "pictures", tmp_path / "none")
    (tmp_path / "none" / "metadata.jsonl").unlink()
    text = told_by_train(runs, "sd", tmp_path, f"data.name=imagefolder:{tmp_path / 'none'}")
    assert "has no captions" in text and "metadata.jsonl" in text and "caption_template" in text
    shutil.copytree(runs["sdxl"].place / "pictures", tmp_path / "few")
    (tmp_path / "few" / "03.txt").unlink()
    text = told_by_train(runs, "sdxl", tmp_path, f"data.name=imagefolder:{tmp_path / 'few'}")
    assert "1 of 20 images have no caption" in text and "03.png" in text


def test_other_classes_than_the_bases(runs, tmp_path):
    data = f"data.name=npz:{runs['ddpm'].place / 'pictures.npz'}"
    text = told_by_train(runs, "dit", tmp_path, data)
    assert "has 8 classes" in text and "the base has 5" in text and "data.class_map=" in text
