"""``export``, ``import`` and ``merge`` as a person would type them."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import torch
from diffusers import DDPMPipeline
from peft import PeftModel
from tiny import make_base, run_config, write_base
from typed import call

from superlora_diffusion import SuperLoRAConfig, attach, load_adapter
from superlora_diffusion.adapters import AdapterCard
from superlora_diffusion.cli import export, import_, merge
from superlora_diffusion.exchange.exporting import open_adapter
from superlora_diffusion.models.storage import save_base
from superlora_diffusion.peers import attach_peer
from superlora_diffusion.runs.folder import RunFolder


def said(*words):
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(*words):
    result = call(*words)
    assert result.exit_code in (1, 2) and result.stdout == ""
    return result.stderr


def save(folder, base, scale=1.0, **fields):
    adapter = attach(make_base().network, SuperLoRAConfig(**fields))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    adapter.set_scale(scale)
    adapter.save_pretrained(folder, card=AdapterCard(base=str(base)))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny base, a finished run of LoRA on it, and adapters of other kinds."""
    folder = tmp_path_factory.mktemp("exchanged")
    base = write_base(folder / "base")
    run = RunFolder(folder / "run")
    run.claim(run_config(folder))
    save(run.adapter, base, variant="lora", rank=2)
    save(folder / "lorta", base, scale=0.5, variant="lorta", rank=3)
    attach_peer(make_base().network, "bitfit", None, 0).save(folder / "bitfit", AdapterCard(base=str(base)))
    return folder


def network_of(place):
    return make_base().network


def deltas_at(place, adapter):
    return load_adapter(network_of(place), place / adapter).requires_grad_(False).deltas()


def test_a_run_goes_to_peft_and_back(place, tmp_path):
    text = said("export", place / "run", "--format", "peft", "--out", tmp_path / "peft")
    assert re.search(r"rank 2 in (\d+) matrices", text) and f"written: {tmp_path / 'peft'}" in text
    network = network_of(place)
    PeftModel.from_pretrained(network, tmp_path / "peft")
    text = said("import", tmp_path / "peft", "--base", place / "base", "--out", tmp_path / "ours")
    assert text.startswith("peft: 8 matrices at rank 2,"), text
    back = load_adapter(network_of(place), tmp_path / "ours").requires_grad_(False).deltas()
    for name, delta in deltas_at(place, "run/adapter").items():
        assert float(delta.norm()) > 1
        torch.testing.assert_close(back[name], delta, rtol=1e-5, atol=1e-5)
    opened = open_adapter(str(tmp_path / "ours"))  # it knows its base
    assert opened.folder == place / "base"


def test_the_error_of_an_approximation_is_printed(place, tmp_path):
    words = ["export", place / "lorta", "--format", "peft", "--rank", 1, "--json"]
    found = json.loads(said(*words, "--out", tmp_path / "a"))
    report = found["report"]
    assert found["format"] == "peft" and 0.05 < report["overall"] < 1
    assert set(report["ranks"].values()) == {1} and len(report["errors"]) == len(report["ranks"]) == 8
    text = said("export", place / "lorta", "--format", "peft", "--max-error", 0.3, "--out", tmp_path / "b")
    overall, worst = map(float, re.search(r"error ([\d.e-]+) overall, ([\d.e-]+) at worst", text).groups())
    assert 0 < overall <= worst <= 0.3
    text = said("export", place / "lorta", "--format", "peft", "--out", tmp_path / "c")
    assert float(re.search(r"([\d.e-]+) at worst", text)[1]) <= 0.01


def test_merge_writes_a_pipeline_of_plain_diffusers(place, tmp_path):
    said("merge", place / "lorta", "--scale", 2, "--out", tmp_path / "two")
    said("export", place / "lorta", "--format", "merged", "--out", tmp_path / "as-stored")
    base = make_base().network.state_dict()
    deltas = deltas_at(place, "lorta")  # stored at scale 0.5
    for folder, factor in [("two", 4), ("as-stored", 1)]:
        network = DDPMPipeline.from_pretrained(tmp_path / folder, low_cpu_mem_usage=False).unet
        for name, delta in deltas.items():
            expected = base[f"{name}.weight"] + factor * delta
            torch.testing.assert_close(
                network.get_submodule(name).weight.detach(), expected, rtol=1e-4, atol=1e-5
            )
    assert (tmp_path / "two/superlora_base.json").is_file(), "what the classes mean goes with it"
    assert said(
        "sample", tmp_path / "two", "--count", 1, "--sampler", "ddim", "--steps", 1, "--out", tmp_path / "s"
    )


def test_merge_reports_in_json(place, tmp_path):
    found = json.loads(said("merge", place / "lorta", "--scale", 2, "--out", tmp_path / "two", "--json"))
    assert found["path"] == str(tmp_path / "two") and found["scale"] == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["export", "run", "--format", "diffusers", "--out", "new"],
            "loads no LoRA files into a DDPMPipeline",
        ),
        (["export", "run", "--format", "kohya", "--out", "new.safetensors"], "use format peft"),
        (["export", "run", "--format", "onnx", "--out", "new"], "Accepted: diffusers, peft, kohya, merged"),
        (["export", "run", "--format", "peft", "--out", "base"], "is there already"),
        (
            ["export", "run", "--format", "peft", "--rank", "2", "--max-error", "0.1", "--out", "new"],
            "one of them",
        ),
        (["export", "base", "--format", "peft", "--out", "new"], "holds no adapter"),
        (["export", "bitfit", "--format", "peft", "--out", "new"], "method 'bitfit'"),
        (["merge", "base", "--out", "new"], "holds no adapter"),
        (["merge", "run", "--out", "base"], "is there already"),
        (["merge", "run", "--scale", "nan", "--out", "new"], "finite"),
        (["import", "run/adapter", "--base", "base", "--out", "new"], "needs no import"),
        (["import", "nowhere", "--base", "base", "--out", "new"], "neither a file nor a folder"),
        (["import", "run", "--base", "base", "--out", "base"], "is there already"),
    ],
)
def test_what_cannot_be_is_refused_in_words(words, text, place, monkeypatch):
    monkeypatch.chdir(place)
    assert text.lower() in " ".join(refused(*words).split()).lower()
    assert not (place / "new").exists() and not (place / "new.safetensors").exists()


def test_import_says_what_does_not_fit_the_base(place, tmp_path):
    said("export", place / "run", "--format", "peft", "--out", tmp_path / "peft")
    other = write_base(tmp_path / "other", block_out_channels=(8, 24))
    text = refused("import", tmp_path / "peft", "--base", other, "--out", tmp_path / "new")
    assert "its weight here is (24, 24)" in text and not (tmp_path / "new").exists()


def test_revision_and_variant_of_a_base_are_remembered(place, monkeypatch):
    asked = []

    def find(source, revision=None, variant=None):
        asked.append((source, revision, variant))
        return place / ("base-fp16" if variant else "base")

    described = json.loads((place / "lorta/adapter_config.json").read_text())
    described["base"] |= {"id": "tiny", "settings": {"revision": "v2", "variant": "fp16"}}
    copy = place / "revised"
    copy.mkdir()
    for path in (place / "lorta").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "adapter_config.json").write_text(json.dumps(described))
    base = make_base()
    base.parts.variant = "fp16"
    save_base(base, place / "base-fp16")
    monkeypatch.setattr("superlora_diffusion.models.storage.find_folder", find)
    own, other = open_adapter(str(copy)), open_adapter(str(copy), "tiny")
    assert asked == [("tiny", "v2", "fp16"), ("tiny", None, None)]
    assert (own.folder, own.variant) == (place / "base-fp16", "fp16")
    assert (other.folder, other.variant) == (place / "base", None)


@pytest.mark.parametrize("verb", [export, import_, merge])
def test_examples_in_the_help_can_be_typed(verb):
    lines = [line.strip() for line in verb._HELP.splitlines() if line.startswith("  superlora-diff ")]
    assert len(lines) >= 2
    known = {"--format", "--out", "--rank", "--max-error", "--base", "--scale"}
    for line in lines:
        words = shlex.split(line)
        assert words[1] == verb.__name__.rsplit(".", 1)[1].rstrip("_")
        assert {word for word in words if word.startswith("--")} <= known
        assert call(words[1], "--help").exit_code == 0
