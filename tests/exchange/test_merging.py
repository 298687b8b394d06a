"""Merged pipelines: plain diffusers draws what the attached adapter draws, and the base is left as it was."""

from __future__ import annotations

import json

import pytest
import torch
from pipelines import draw, load_pipeline
from safetensors.torch import load_file

from superlora_diffusion import __version__
from superlora_diffusion.errors import AdapterError, BaseModelError, SuperLoRAError
from superlora_diffusion.exchange.exporting import export_adapter, merge_adapter
from superlora_diffusion.exchange.merging import merged

from .adapting import LORTA, assert_same_and_not_base, attached_to, base_image

KINDS = ["sd", "sdxl", "sd3", "ddpm", "dit"]
LARGE = {**LORTA, "size": 1.0}


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_plain_diffusers_draws_what_the_attached_adapter_draws(kind, pipelines, tmp_path):
    before = files_of(pipelines[kind])
    pipeline, attached = attached_to(pipelines[kind], **LARGE)
    ours = draw(pipeline)
    export_adapter(attached, "merged", tmp_path / "out")
    assert_same_and_not_base(ours, draw(load_pipeline(tmp_path / "out")), base_image(pipelines[kind]))
    part = "transformer" if kind in ("sd3", "dit") else "unet"
    after = files_of(tmp_path / "out")
    changed = {name for name in before if before[name] != after.get(name)}
    assert {name.split("/")[0] for name in changed} == {part}, "everything else is the base's, byte for byte"
    assert set(after) - set(before) == {"README.md", "superlora_merge.json"}
    assert files_of(pipelines[kind]) == before


def test_the_stored_weights_are_base_plus_update_and_the_network_is_given_back(pipelines, tmp_path):
    _, attached = attached_to(pipelines["sd"], **LARGE, scale=0.5)
    network, adapter = attached.network, attached.adapter
    before = {name: value.clone() for name, value in network.state_dict().items()}
    merge_adapter(attached, tmp_path / "out")
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not adapter.is_merged
    stored = load_file(tmp_path / "out/unet/diffusion_pytorch_model.safetensors")
    assert stored.keys() == before.keys()
    deltas = {f"{name}.weight": delta for name, delta in adapter.deltas().items()}
    for name, value in stored.items():
        assert torch.equal(value, before[name] + deltas[name] if name in deltas else before[name])
        assert torch.equal(value, before[name]) == (name not in deltas)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_unmerging_restores_every_bit(dtype, pipelines):
    _, attached = attached_to(pipelines["sd"], **LARGE)
    attached.network.to(dtype)
    before = {name: value.clone() for name, value in attached.network.state_dict().items()}
    with merged(attached.adapter):
        inside = attached.network.state_dict()
        assert sum(not torch.equal(inside[name], value) for name, value in before.items()) == len(
            attached.adapter.targets
        )
    assert all(torch.equal(attached.network.state_dict()[name], value) for name, value in before.items())


def test_an_adapter_that_was_merged_stays_merged(pipelines, tmp_path):
    _, attached = attached_to(pipelines["ddpm"], **LARGE)
    attached.adapter.merge()
    merge_adapter(attached, tmp_path / "out")
    assert attached.adapter.is_merged


def test_a_scale_replaces_the_stored_one(pipelines, tmp_path):
    pipeline, attached = attached_to(pipelines["ddpm"], **LARGE)
    whole = draw(pipeline)
    merge_adapter(attached, tmp_path / "half", scale=0.5)
    half = draw(pipeline)
    assert float((half - whole).abs().max()) > 0.01
    torch.testing.assert_close(draw(load_pipeline(tmp_path / "half")), half, atol=2e-4, rtol=0)
    assert json.loads((tmp_path / "half/superlora_merge.json").read_text())["scale"] == 0.5
    with pytest.raises(AdapterError, match="finite"):
        merge_adapter(attached, tmp_path / "never", scale=float("inf"))


def test_a_note_says_what_was_merged(pipelines, tmp_path):
    _, attached = attached_to(pipelines["sd"], **LARGE)
    (written := tmp_path / "out").mkdir()
    merge_adapter(attached, written)
    note = json.loads((written / "superlora_merge.json").read_text())
    assert note["base"] == str(pipelines["sd"]) and note["adapter"] == "tiny-adapter"
    assert note["weights"] == "0123456789ab" and note["library_version"] == __version__
    assert note["config"]["variant"] == "lorta" and note["parameters"] == attached.adapter.num_parameters
    assert note["targets"] == [target.name for target in attached.adapter.targets]
    card = (written / "README.md").read_text()
    assert (
        "tiny-adapter" in card
        and "DiffusionPipeline.from_pretrained" in card
        and "| variant | lorta |" in card
    )


def test_the_bases_card_is_kept_and_whole_models_beside_it_are_not(pipelines, tmp_path):
    base = tmp_path / "base"
    for name, content in files_of(pipelines["ddpm"]).items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(content)
    (base / "README.md").write_text("the base's own card")
    (base / "LICENSE").write_text("a licence")
    (base / "whole.ckpt").write_bytes(b"gigabytes")
    (base / ".gitattributes").write_text("git")
    (base / "samples").mkdir()
    _, attached = attached_to(base, **LARGE)
    merge_adapter(attached, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"README.md", "BASE_README.md", "LICENSE", "model_index.json", "unet", "scheduler"} <= names
    assert not {"whole.ckpt", ".gitattributes", "samples"} & names
    assert (tmp_path / "out/BASE_README.md").read_text() == "the base's own card"


def test_a_base_that_is_not_whole_or_another_is_refused(pipelines, tmp_path):
    _, attached = attached_to(pipelines["sd"], **LARGE)
    half = tmp_path / "half"
    half.mkdir()
    (half / "model_index.json").write_bytes((pipelines["sd"] / "model_index.json").read_bytes())
    for folder, word in [
        (half, r"lacks scheduler, text_encoder, tokenizer, vae"),
        (pipelines["dit"], "has no unet"),
        (tmp_path / "nowhere", "no pipeline folder"),
    ]:
        other = type(attached)(attached.network, attached.adapter, folder)
        with pytest.raises(BaseModelError, match=word):
            merge_adapter(other, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_write_that_fails_leaves_neither_a_folder_nor_merged_weights(pipelines, tmp_path, monkeypatch):
    _, attached = attached_to(pipelines["ddpm"], **LARGE)
    before = {name: value.clone() for name, value in attached.network.state_dict().items()}

    def fail(folder, variant=None):
        (folder / "half").mkdir(parents=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(attached.network, "save_pretrained", fail)
    with pytest.raises(SuperLoRAError, match="No space left"):
        merge_adapter(attached, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert all(torch.equal(attached.network.state_dict()[name], value) for name, value in before.items())
