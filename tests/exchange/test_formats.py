"""Each format, read by the library it is for: the images are those of the attached adapter, and not the base's."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from peft import PeftModel
from pipelines import denoiser, draw, load_pipeline
from safetensors import safe_open
from safetensors.torch import load_file

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.errors import BaseModelError, ConfigError
from superlora_diffusion.exchange.exporting import Attached, export_adapter
from superlora_diffusion.exchange.factors import Precision
from superlora_diffusion.exchange.importing import attach_lora
from superlora_diffusion.exchange.merging import merged
from superlora_diffusion.exchange.reading import read_lora

from .adapting import EVERYWHERE, LORA, LORTA, assert_same_and_not_base, attached_to, base_image, fill

PROMPTED = ["sd", "sdxl", "sd3"]
# Every kind of layer of the denoisers, convolutions included.
LAYERS = {
    "sd": ["to_q", "to_out.0", "proj_in", "conv1", "conv_shortcut", "ff.net.0.proj", "time_emb_proj", "conv"],
    "sdxl": ["to_k", "to_out.0", "proj_in", "conv2", "ff.net.2", "conv_in", "conv"],
    "sd3": ["to_q", "add_v_proj", "to_out.0", "ff_context.net.2", "linear", "proj_out", "pos_embed.proj"],
    "ddpm": ["to_q", "conv1", "conv_in", "linear_1", "time_emb_proj"],
    "dit": ["to_q", "ff.net.2", "proj_out_1", "linear"],
}
# Layers whose ranks differ, because the small ones need less.
MIXED = {"variant": "lora", "rank": 20, "targets": ["to_q", "to_v", "conv1", "ff.net.2", "proj_out"]}


MIXED_TARGETS = {
    "sd3": ["to_q", "add_v_proj", "ff_context.net.2", "linear", "proj_out"],
    "ddpm": ["to_q", "conv1", "linear_2"],
    "dit": ["to_q", "ff.net.2", "linear"],
}


def settings_of(name, kind):
    large = 2.0 if kind == "sd3" else 1.0  # its attention says little
    return {
        "lorta": {**LORTA, "size": 0.5 * large},
        "everywhere": {**EVERYWHERE, "targets": LAYERS[kind], "size": 0.3, "scale": -0.8},
        "mixed": {**MIXED, "targets": MIXED_TARGETS.get(kind, MIXED["targets"]), "size": 0.3},
    }[name]


@pytest.fixture
def text_lora(monkeypatch):
    """transformers asks for a PEFT that may be newer than the one installed; what is used of it is older."""
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "0.17.0")


def export(folder, format, out, precision=None, **settings):
    """(our image, what was written) of an adapter of those settings on a pipeline folder."""
    pipeline, attached = attached_to(folder, **settings)
    written = export_adapter(attached, format, out, precision or Precision(max_error=1e-6))
    return draw(pipeline), written


@pytest.mark.parametrize("name", ["lorta", "everywhere", "mixed"])
@pytest.mark.parametrize("kind", PROMPTED)
def test_diffusers_loads_what_it_is_given(kind, name, pipelines, tmp_path):
    ours, written = export(pipelines[kind], "diffusers", tmp_path / "out", **settings_of(name, kind))
    pipeline = load_pipeline(pipelines[kind])
    pipeline.load_lora_weights(tmp_path / "out")
    assert_same_and_not_base(ours, draw(pipeline), base_image(pipelines[kind]))
    keys = load_file(written.path).keys()
    part = "transformer" if kind == "sd3" else "unet"
    assert all(
        key.startswith(f"{part}.") and key.endswith(("lora_A.weight", "lora_B.weight")) for key in keys
    )
    assert len(set(written.report.ranks.values())) > 1 or name != "mixed"


@pytest.mark.parametrize("name", ["lorta", "everywhere", "mixed"])
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_diffusers_reads_the_kohya_file(kind, name, pipelines, tmp_path):
    out = tmp_path / "style.safetensors"
    ours, _ = export(pipelines[kind], "kohya", out, **settings_of(name, kind))
    pipeline = load_pipeline(pipelines[kind])
    pipeline.load_lora_weights(out)
    assert_same_and_not_base(ours, draw(pipeline), base_image(pipelines[kind]))


@pytest.mark.parametrize("name", ["everywhere", "mixed"])
@pytest.mark.parametrize("kind", ["sdxl", "sd3"])
def test_the_kohya_file_by_its_own_rules(kind, name, pipelines, tmp_path):
    """Underscored names behind a prefix, scale alpha / rank: read here without this package."""
    out = tmp_path / "style.safetensors"
    ours, written = export(pipelines[kind], "kohya", out, **settings_of(name, kind))
    pipeline = load_pipeline(pipelines[kind])
    prefix = "lora_transformer_" if kind == "sd3" else "lora_unet_"
    tensors, used = load_file(out), 0
    with torch.no_grad():
        for module, layer in denoiser(pipeline).named_modules():
            key = prefix + module.replace(".", "_")
            if f"{key}.alpha" in tensors:
                used += 3
                up, down = tensors[f"{key}.lora_up.weight"], tensors[f"{key}.lora_down.weight"]
                scale = float(tensors[f"{key}.alpha"]) / down.shape[0]
                layer.weight += scale * (up.flatten(1) @ down.flatten(1)).view(layer.weight.shape)
    assert used == len(tensors) == 3 * len(written.report.ranks)
    assert_same_and_not_base(ours, draw(pipeline), base_image(pipelines[kind]))


def test_the_kohya_file_says_what_it_is(pipelines, tmp_path):
    def metadata(kind, **settings):
        out = tmp_path / f"{kind}-{len(settings['targets'])}.safetensors"
        export(pipelines[kind], "kohya", out, **settings)
        with safe_open(out, framework="pt") as opened:
            return opened.metadata()

    said = metadata("sd", variant="lora", rank=3, targets=["to_q"])
    expected = {"ss_base_model_version": "sd_v1", "ss_network_dim": "3", "ss_network_alpha": "3.0"}
    assert expected.items() <= said.items()
    assert said["ss_network_module"] == "networks.lora" and said["ss_v2"] == "False"
    assert metadata("sdxl", **MIXED)["ss_network_dim"] == "Dynamic"
    assert metadata("sdxl", **MIXED | {"targets": ["to_q"]})["ss_base_model_version"] == "sdxl_base_v1-0"


@pytest.mark.parametrize("name", ["everywhere", "mixed"])
@pytest.mark.parametrize("kind", ["sdxl", "sd3", "ddpm", "dit"])
def test_peft_loads_what_it_is_given(kind, name, pipelines, tmp_path):
    settings = settings_of(name, kind)
    if name == "mixed":
        settings["targets"] = {
            "ddpm": ["to_q", "conv1", "linear_2"],
            "dit": ["to_q", "ff.net.2", "linear"],
        }.get(kind, settings["targets"])
    ours, _ = export(pipelines[kind], "peft", tmp_path / "out", **settings)
    pipeline = load_pipeline(pipelines[kind])
    model = PeftModel.from_pretrained(denoiser(pipeline), tmp_path / "out")
    assert model.peft_config["default"].r >= 1
    assert_same_and_not_base(ours, draw(pipeline), base_image(pipelines[kind]))


@pytest.mark.parametrize("kind", ["ddpm", "dit"])
@pytest.mark.parametrize("format", ["diffusers", "kohya"])
def test_pipelines_that_load_no_lora_are_refused_with_what_works(kind, format, pipelines, tmp_path):
    plain = load_pipeline(pipelines[kind])
    assert not hasattr(plain, "load_lora_weights") and not hasattr(denoiser(plain), "load_lora_adapter")
    out = tmp_path / ("out.safetensors" if format == "kohya" else "out")
    with pytest.raises(BaseModelError, match=r"loads no LoRA files into a \w+.*peft.*merged"):
        export(pipelines[kind], format, out, **LORA)
    assert not out.exists()


def test_an_approximation_is_as_good_as_its_report(pipelines, tmp_path):
    _, written = export(pipelines["sd"], "diffusers", tmp_path / "out", Precision(rank=1), **LORTA)
    _, attached = attached_to(pipelines["sd"], **LORTA)
    read = load_file(written.path)
    lost = norm = 0.0
    for name, delta in attached.adapter.deltas().items():
        up, down = (read[f"unet.{name}.lora_{which}.weight"] for which in "BA")
        assert down.shape[0] == 1
        lost += float((delta - up @ down).square().sum())
        norm += float(delta.square().sum())
    assert written.report.overall == pytest.approx((lost / norm) ** 0.5, rel=1e-4)
    assert written.report.overall > 0.1
    assert written.report.stored == sum(value.numel() for value in read.values())
    assert written.report.parameters == attached.adapter.num_parameters


def test_an_untrained_adapter_is_exported_as_nothing(pipelines, tmp_path):
    pipeline = load_pipeline(pipelines["sd"])
    adapter = attach(pipeline.unet, SuperLoRAConfig(**LORTA))
    attached = Attached(pipeline.unet, adapter, pipelines["sd"])
    written = export_adapter(attached, "kohya", tmp_path / "zero.safetensors")
    tensors = load_file(written.path)
    assert tensors and all(torch.isfinite(value).all() for value in tensors.values())
    assert not any(value.any() for key, value in tensors.items() if "lora_up" in key)


class Composite(torch.nn.Module):
    """A U-Net and its text encoder under one roof, named as their pipeline names them."""

    def __init__(self, pipeline, parts):
        super().__init__()
        for part in parts:
            self.add_module(part, getattr(pipeline, part))


def composite(folder, parts, **settings):
    pipeline = load_pipeline(folder)
    roof = Composite(pipeline, parts)
    adapter = fill(attach(roof, SuperLoRAConfig(**settings)), 0.4)
    return pipeline, adapter, Attached(roof, adapter, folder, str(folder))


BOTH = {"variant": "lora", "rank": 12, "targets": ["to_q", "q_proj", "fc2", "time_embedding.linear_1"]}


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
@pytest.mark.parametrize(("kind", "count"), [("sd", 1), ("sdxl", 2)])
def test_text_encoders_go_to_their_own_keys(format, kind, count, pipelines, tmp_path, text_lora):
    texts = ["text_encoder", "text_encoder_2"][:count]
    pipeline, adapter, attached = composite(pipelines[kind], ["unet", *texts], **BOTH)
    out = tmp_path / ("out.safetensors" if format == "kohya" else "out")
    written = export_adapter(attached, format, out)
    with merged(adapter):  # a roof is no part of what the pipeline calls
        ours = draw(pipeline)
    theirs = load_pipeline(pipelines[kind])
    theirs.load_lora_weights(out)
    assert_same_and_not_base(ours, draw(theirs), base_image(pipelines[kind]))
    for text in texts:  # each network's share is seen in the image
        parts = load_pipeline(pipelines[kind])
        parts.load_lora_weights(out)
        getattr(parts, text).disable_adapters()
        assert float((draw(parts) - ours).abs().max()) > 1e-3, text
    heads = {key.split("_text_model")[0] for key in load_file(written.path) if "text_model" in key}
    if format == "kohya":
        assert heads == ({"lora_te"} if count == 1 else {"lora_te1", "lora_te2"})


def test_peft_gets_a_folder_for_each_network_of_a_composite(pipelines, tmp_path):
    pipeline, adapter, attached = composite(pipelines["sd"], ["unet", "text_encoder"], **BOTH)
    export_adapter(attached, "peft", tmp_path / "out")
    with merged(adapter):
        ours = draw(pipeline)
    theirs = load_pipeline(pipelines["sd"])
    for part in ("unet", "text_encoder"):
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for an old name
        PeftModel.from_pretrained(getattr(theirs, part), tmp_path / "out" / part)
    assert_same_and_not_base(ours, draw(theirs), base_image(pipelines["sd"]))


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
def test_a_composite_comes_back_as_it_went(format, pipelines, tmp_path):
    _, adapter, attached = composite(pipelines["sdxl"], ["unet", "text_encoder", "text_encoder_2"], **BOTH)
    out = tmp_path / ("out.safetensors" if format == "kohya" else "out")
    export_adapter(attached, format, out)
    roof = Composite(load_pipeline(pipelines["sdxl"]), ["unet", "text_encoder", "text_encoder_2"])
    back = attach_lora(roof, read_lora(out)).requires_grad_(False).deltas()
    extra = set(back) - set(adapter.deltas())
    assert len(extra) == (
        2 if format == "kohya" else 0
    )  # output projections, so that diffusers reads the others
    assert not any(back[name].any() for name in extra)
    for name, delta in adapter.deltas().items():
        torch.testing.assert_close(back[name], delta, rtol=1e-4, atol=1e-5)


def test_a_place_that_is_taken_or_of_the_wrong_kind_is_refused(pipelines, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("years of work")
    for format, out, word in [
        ("peft", tmp_path / "full", "is there already"),
        ("peft", tmp_path / "a.safetensors", "writes a folder"),
        ("kohya", tmp_path / "a", "writes one file"),
        ("safetensors", tmp_path / "a", "unknown"),
        ("merged", tmp_path / "a", "leave --rank"),
    ]:
        with pytest.raises(ConfigError, match=word):
            export(pipelines["sd"], format, out, **LORA)
    assert (tmp_path / "full/thesis.txt").read_text() == "years of work"


def test_peft_settings_are_the_same_each_time(pipelines, tmp_path):
    written = [export(pipelines["ddpm"], "peft", tmp_path / name, **LORA)[1].path for name in "ab"]
    first, second = (json.loads((path / "adapter_config.json").read_text()) for path in written)
    assert first == second and first["target_modules"] == sorted(first["target_modules"])
