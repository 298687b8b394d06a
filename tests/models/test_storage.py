"""Bases from every place they can lie, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import shutil

import huggingface_hub.constants
import pytest
import torch
from diffusers import DDPMPipeline
from tiny import NAMES, ZERO_SNR, make_base, write_base

from superlora_diffusion.errors import BaseModelError, SuperLoRAError
from superlora_diffusion.models.config import EMBEDDED_BASE, BaseSettings
from superlora_diffusion.models.storage import load_base, save_base


def load(folder, **settings):
    return load_base(BaseSettings(path=str(folder), **settings))


def same_weights(a, b) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_saved_base_comes_back_whole(tmp_path):
    base = make_base()
    save_base(base, tmp_path / "base", {"data": {"name": "leaves"}})
    back = load(tmp_path / "base")
    assert same_weights(base.network, back.network)
    assert json.loads(back.scheduler.to_json_string()) == json.loads(base.scheduler.to_json_string())
    assert (back.class_names, back.null_class) == (NAMES, 4)
    assert (back.size, back.channels, back.classes, back.name) == (8, 3, 4, str(tmp_path / "base"))
    assert json.loads((tmp_path / "base" / "superlora_base.json").read_text())["data"] == {"name": "leaves"}


def test_diffusers_itself_reads_what_is_written(tmp_path):
    base = make_base()
    save_base(base, tmp_path / "base")
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "base")
    assert same_weights(base.network, pipeline.unet)
    assert pipeline.scheduler.config.rescale_betas_zero_snr
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))


def test_saving_replaces_and_a_failure_leaves_the_old_one(tmp_path, monkeypatch):
    save_base(make_base(classes=3), tmp_path / "base")
    save_base(make_base(), tmp_path / "base")
    assert load(tmp_path / "base").classes == 4

    def full_disk(self, folder, variant=None):
        (folder / "half").write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DDPMPipeline, "save_pretrained", full_disk)
    with pytest.raises(SuperLoRAError, match="base cannot be written: No space left"):
        save_base(make_base(classes=2), tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert load(tmp_path / "base").classes == 4


def test_the_embedded_base_says_what_its_classes_mean():
    base = load_base(BaseSettings())
    assert base.name == EMBEDDED_BASE and base.class_names == tuple("0123456789") and base.null_class == 10
    assert base.size == 16 and base.channels == 3
    assert base.scheduler.config.prediction_type == "v_prediction" and base.scheduler.alphas_cumprod[-1] == 0
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = (base.network(noise, 500, class_labels=torch.tensor([c, c])).sample for c in (1, 8))
    assert one.isfinite().all() and (one - other).abs().max() > 1e-3


def test_a_hub_id_is_found_in_the_local_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    cached, commit = tmp_path / "hub" / "models--someone--trees", "1" * 40
    write_base(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    base = load("someone/trees")
    assert same_weights(base.network, make_base().network) and base.name == "someone/trees"
    assert base.class_names == NAMES
    assert same_weights(load("someone/trees", revision=commit).network, base.network)
    with pytest.raises(BaseModelError, match=r"'someone/bushes' is no local folder.*hub did not give it"):
        load("someone/bushes")


def test_an_unconditional_base_has_no_classes(tmp_path):
    base = load(write_base(tmp_path / "base", classes=0))
    assert base.classes is None and base.class_names == () and base.null_class is None


def test_a_base_without_our_card_is_told_its_classes(tmp_path):
    folder = write_base(tmp_path / "base")
    (folder / "superlora_base.json").unlink()
    plain = load(folder)
    assert plain.class_names == ("0", "1", "2", "3", "4") and plain.null_class is None
    with pytest.raises(BaseModelError, match=r"no null class, which guidance scale 3 needs.*base.null_class"):
        plain.require_null_class("guidance scale 3")
    told = load(folder, null_class=4, class_names=NAMES)
    assert told.class_names == NAMES and told.require_null_class("x") == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"null_class": 5}, "null_class is 5.*0 to 4"),
        ({"null_class": 1}, r"null_class is 1; only the last index \(4\)"),
        ({"class_names": ("a", "b")}, "has 4 classes, but 2 class names"),
    ],
)
def test_classes_that_do_not_fit_are_refused(tmp_path, settings, said):
    with pytest.raises(BaseModelError, match=said):
        load(write_base(tmp_path / "base"), **settings)


def break_weights(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x08\0\0\0")


def write_unknown(folder):
    shutil.rmtree(folder / "unet")
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text('{"_class_name": "UNet1DModel"}')


def write_quantised(folder):
    config = json.loads((folder / "unet" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (folder / "unet" / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_weights, "cannot be loaded"),
        (lambda folder: shutil.rmtree(folder / "unet"), "no unet/config.json"),
        (lambda folder: shutil.rmtree(folder / "scheduler"), "no scheduler/scheduler_config.json"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{"), "config.json is broken"),
        (lambda folder: (folder / "superlora_base.json").write_text("[]"), "superlora_base.json is broken"),
        (write_unknown, "holds a UNet1DModel, which no family here drives. Accepted: .*UNet2DModel"),
        (write_quantised, "is quantised.*base.precision=bf16"),
    ],
)
def test_damaged_and_foreign_folders_are_named(tmp_path, damage, said):
    folder = write_base(tmp_path / "base")
    damage(folder)
    with pytest.raises(BaseModelError, match=said) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out_channels": 6}, "predicts 6 channels from 3"),
        ({"sample_size": (8, 16)}, r"sample_size .*8, 16"),
        ({"sample_size": None}, "sample_size None"),
        ({"classes": 0, "class_embed_type": "timestep"}, "'timestep'"),
    ],
)
def test_networks_that_cannot_be_driven_are_refused(tmp_path, options, said):
    with pytest.raises(BaseModelError, match=said):
        load(write_base(tmp_path / "base", **options))


@pytest.mark.parametrize("name", ["synthdigit-16", "./nothing/here", "/nothing/at/all", "a/b/c"])
def test_a_name_that_is_nothing_says_what_is_accepted(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseModelError, match=rf"is no folder.*{EMBEDDED_BASE}.*hub id"):
        load(name)


def test_a_near_miss_is_suggested():
    with pytest.raises(BaseModelError, match="Did you mean 'synthdigits-16'"):
        load("synthdigit-16")


def test_half_precision_files_load_as_fp32(tmp_path):
    base = make_base(schedule=ZERO_SNR)
    base.network.half()
    save_base(base, tmp_path / "base")
    assert load(tmp_path / "base").network.dtype == torch.float32
