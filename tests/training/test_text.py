"""What users of text-to-image models expect: text encoders adapted, prior preservation, dropped captions, prompts."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from families import TEXT, WORDS, family_config, write_family
from PIL import Image
from pipelines import denoiser, load_pipeline
from safetensors.torch import load_file

from superlora_diffusion import load_adapter
from superlora_diffusion.errors import BaseModelError, ConfigError
from superlora_diffusion.models.conditioning import rows_in
from superlora_diffusion.runs.source import open_source
from superlora_diffusion.sampling.config import SamplingSettings
from superlora_diffusion.sampling.producer import generate
from superlora_diffusion.training import objective
from superlora_diffusion.training.examples import make_examples
from superlora_diffusion.training.loop import train

LORA = {"variant": "lora", "rank": 2, "targets": ["to_q", "to_v"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    return {kind: write_family(kind, place / kind) for kind in TEXT}


def images(source, **settings) -> np.ndarray:
    asked = SamplingSettings(steps=3, guidance_scale=2, **settings)
    return generate(source.base, list(WORDS[:4]), 4, asked).astype(int)


@pytest.mark.parametrize("kind", TEXT)
def test_text_encoders_learn_with_the_denoiser(folders, kind, tmp_path):
    settings = {"variant": "lora", "rank": 2}
    config = family_config(
        tmp_path, folders[kind], base={"text_encoders": True}, adapter=settings, train={"steps": 8}
    )
    config = config.model_copy(
        update={"adapter": type(config.adapter)(**settings)}
    )  # the family's own targets
    train(config, "cpu", quiet=True)
    described = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    parts = {target["name"].split(".")[0] for target in described["targets"]}
    wanted = {"text_encoder"} | ({"text_encoder_2"} if kind != "sd" else set())
    ends = {target["name"].rsplit(".", 1)[-1] for target in described["targets"]}
    assert ends == {"to_q", "to_v", "q_proj", "v_proj"} | (
        {"add_q_proj", "add_v_proj"} if kind == "sd3" else set()
    )
    assert parts == wanted | {"transformer" if kind == "sd3" else "unet"}
    source = open_source(str(tmp_path / "run"))
    deltas = source.adapter.deltas()
    first = [name for name in deltas if name.startswith("text_encoder") and ".layers.0." in name]
    assert first and all(
        deltas[name].abs().max() > 0 for name in first
    )  # of XL's first encoder the last is unused
    with source.adapter.cached():
        drawn = images(source)
    with source.adapter.disabled():
        base = images(source)
    assert np.abs(drawn - base).max() > 2
    # The same in plain diffusers: the parts of its pipeline are adapted where they stand.
    pipeline = load_pipeline(folders[kind])
    adapter = load_adapter(pipeline, tmp_path / "run" / "adapter")
    ids = torch.tensor([[52, 1, 2, 53]])
    with adapter.disabled():
        plain = pipeline.text_encoder(ids)[0]
    with adapter.cached():
        adapted = pipeline.text_encoder(ids)[0]
    assert (adapted - plain).abs().max() > 1e-4
    with source.adapter.cached():
        torch.testing.assert_close(source.base.network.text_encoder(ids)[0], adapted)
    assert denoiser(pipeline).state_dict().keys() == source.base.network.denoiser.state_dict().keys()


def test_the_network_of_both_predicts_what_the_parts_predict(folders, tmp_path):
    config = family_config(tmp_path, folders["sd"])
    apart, joined = (
        open_source_of_base(folders["sd"], text_encoders=text_encoders) for text_encoders in (False, True)
    )
    assert joined.adapts_text and not apart.adapts_text
    settings = SamplingSettings(steps=3, guidance_scale=3, negative_prompt="blur")
    one, other = (generate(base, list(WORDS), 8, settings).astype(int) for base in (apart, joined))
    assert np.abs(one - other).max() <= 1 and one.std() > 10
    (examples,) = make_examples(config, joined, [image_set(config, joined)], torch.device("cpu"))
    condition = examples.condition(joined, torch.tensor([1, 1, 5]))
    assert rows_in(condition) == 3 and condition["prompts"].dtype == torch.long


def open_source_of_base(folder, **settings):
    from families import load

    return load(folder, **settings)


def image_set(config, base):
    from superlora_diffusion.training.data import load_split

    return load_split(config, base, "train")[0]


def test_a_base_of_classes_has_no_text_encoders(tmp_path):
    folder = write_family("dit", tmp_path / "dit")
    with pytest.raises(BaseModelError, match=r"takes no text, so base\.text_encoders"):
        open_source_of_base(folder, text_encoders=True)


# --- prior preservation -----------------------------------------------------------------------------------------


def prior_config(tmp_path, folder, weight=1.0, **options):
    prior = {"prompt": "a tree", "images": 5, "weight": weight}
    return family_config(tmp_path, folder, train={"prior": prior, "batch_size": 3, **options}, adapter=LORA)


def test_the_prior_is_drawn_once_by_the_untouched_base(folders, tmp_path):
    config = prior_config(tmp_path, folders["sd"])
    train(config, "cpu", quiet=True)
    files = sorted((tmp_path / "run" / "prior").iterdir())
    assert [file.name for file in files] == [f"0000{index}.png" for index in range(5)]
    base = open_source_of_base(folders["sd"])
    wanted = generate(base, ["a tree"] * 5, 5, config.sampling, seed=config.seed)
    assert np.array_equal(np.stack([np.asarray(Image.open(file)) for file in files]), wanted)
    # A second run into the folder draws what is missing, and nothing else.
    times = {file.name: file.stat().st_mtime_ns for file in files}
    files[2].unlink()
    (tmp_path / "run" / "adapter" / "adapter_config.json").unlink()
    train(config, "cpu", quiet=True)
    after = {file.name: file.stat().st_mtime_ns for file in files}
    assert {name for name in times if after[name] != times[name]} == {"00002.png"}
    assert np.array_equal(np.asarray(Image.open(files[2])), wanted[2])


def test_the_priors_weight_is_that_of_its_mean_loss(folders, tmp_path, monkeypatch):
    seen = []
    from superlora_diffusion.training import denoising

    real = denoising.denoising_loss

    def noted(base, network, clean, condition, noise, places, gamma=None, weights=None):
        halves = [
            real(
                base,
                network,
                clean[part],
                {key: rows[part] for key, rows in condition.items()},
                noise[part],
                places[part],
            )
            for part in (slice(0, 3), slice(3, 6))
        ]
        loss = real(base, network, clean, condition, noise, places, gamma, weights)
        seen.append((loss.item(), halves[0].item(), halves[1].item()))
        return loss

    monkeypatch.setattr(denoising, "denoising_loss", noted)
    train(prior_config(tmp_path, folders["sd"], weight=0.25), "cpu", quiet=True)
    assert len(seen) == 6
    for loss, own, prior in seen:
        assert loss == pytest.approx(own + 0.25 * prior, rel=1e-4) and own != prior


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("dit", {}, r"train.prior: base .* takes no text"),
        ("sd", {"data": {"buckets": True, "bucket_multiple": 8}}, r"train.prior: .*several shapes"),
    ],
)
def test_a_prior_that_cannot_be_is_refused(tmp_path, kind, options, said):
    folder = write_family(kind, tmp_path / "base")
    prior = {"prior": {"prompt": "a tree", "images": 2}}
    with pytest.raises(ConfigError, match=said):
        train(family_config(tmp_path, folder, train=prior, **options), "cpu", quiet=True)


# --- the rest ---------------------------------------------------------------------------------------------------


def test_captions_are_dropped_at_their_rate(folders, tmp_path, monkeypatch):
    dropped = []
    real = objective.drop_condition

    def noted(condition, null, probability, generator):
        found = real(condition, null, probability, generator)
        text = "encoder_hidden_states"
        dropped.extend((found[text] == null[text]).flatten(1).all(dim=1).tolist())
        return found

    monkeypatch.setattr(objective, "drop_condition", noted)
    train(
        family_config(tmp_path, folders["sd"], train={"steps": 25, "caption_dropout": 0.3}), "cpu", quiet=True
    )
    assert len(dropped) == 200 and np.mean(dropped) == pytest.approx(0.3, abs=0.1)


def test_previews_show_their_prompts(folders, tmp_path):
    shown = {}
    for name, prompts in (("own", ()), ("told", ("a red dot", "dog"))):
        preview = {"every": 3, "per_class": 1, "prompts": prompts}
        config = family_config(
            tmp_path, folders["sd"], output=str(tmp_path / name), preview=preview, train={"steps": 3}
        )
        train(config, "cpu", quiet=True)
        with Image.open(tmp_path / name / "samples" / "step-000003.png") as picture:
            shown[name] = picture.size
    assert shown["own"][0] == 4 * (48 + 2) + 2 and shown["told"][0] == 2 * (48 + 2) + 2


@pytest.mark.parametrize(
    ("kind", "sections", "said"),
    [
        ("sd3", {"train": {"min_snr_gamma": 5}}, "train.min_snr_gamma: .*flow matching"),
        (
            "sd",
            {"train": {"compile": True}, "base": {"text_encoders": True}},
            "train.compile: .*text_encoders",
        ),
        ("sd", {"method": "full", "base": {"precision": "bf16"}}, "base.precision: method full"),
        (
            "sd",
            {"data": {"resolution": 24}, "train": {"optimizer": "adamw8bit"}},
            "train.optimizer: .*bitsandbytes",
        ),
    ],
)
def test_what_does_not_fit_is_said(folders, tmp_path, kind, sections, said, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=said):
        train(family_config(tmp_path, folders[kind], **sections), "cpu", quiet=True)


def test_a_bf16_base_trains_an_fp32_adapter(folders, tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        config = family_config(
            tmp_path, folders["sdxl"], output=str(tmp_path / precision), base={"precision": precision}
        )
        train(config, "cpu", quiet=True)
        lines = (tmp_path / precision / "metrics.jsonl").read_text().splitlines()
        losses[precision] = json.loads(lines[-1])["validation_loss"]
        numbers = load_file(tmp_path / precision / "adapter" / "adapter_model.safetensors")
        assert all(value.dtype == torch.float32 for value in numbers.values())
        source = open_source(str(tmp_path / precision))
        assert str(source.base.dtype) == {"fp32": "torch.float32", "bf16": "torch.bfloat16"}[precision]
        with source.adapter.cached():
            assert images(source).std() > 1
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03) and losses["bf16"] != losses["fp32"]
