"""Adapted classifiers in other tools: plain transformers and PEFT name what ours names, trained heads included."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from tiny import write_data
from tiny_vit import vit_config, write_vit
from transformers import ViTForImageClassification, ViTImageProcessor

from superlora_diffusion.errors import ConfigError
from superlora_diffusion.exchange.exporting import export_adapter, merge_adapter, open_adapter
from superlora_diffusion.exchange.factors import Precision
from superlora_diffusion.runs.source import open_classifier
from superlora_diffusion.training.loop import train

from .adapting import fill

HEADS = ("frozen", "new")
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A classifier, and runs that trained adapters of it: ``frozen`` with the base's head, ``new`` with its own."""
    folder = tmp_path_factory.mktemp("place")
    write_vit(folder / "vit")
    write_data(folder / "data.npz")
    for head in HEADS:
        sections = {"adapter": {"variant": "lorta", "rank": 2}, "classification": {"head": head}}
        train(vit_config(folder, output=str(folder / head), **sections), quiet=True)
    return folder


@pytest.fixture(params=HEADS)
def attached(request, place):
    """The adapter with updates that can be seen, and a head with numbers that can."""
    found = open_adapter(str(place / request.param))
    fill(found.adapter)
    if request.param == "new":
        with torch.no_grad():
            for parameter in found.classifier.head.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return found


@torch.no_grad()
def named(network, scale=1.0):
    """Logits of three fixed images."""
    pixels = torch.randn(3, network.config.num_channels, 8, 8, generator=torch.Generator().manual_seed(2))
    return network(pixel_values=pixels).logits.float()


def assert_same(attached, theirs):
    ours = named(attached.network)
    with attached.adapter.disabled():
        assert float((ours - named(attached.network)).abs().max()) > 0.05, "the update is too small"
    torch.testing.assert_close(named(theirs), ours, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_merged_classifier_is_a_folder_of_transformers(attached, tmp_path):
    before = named(attached.network)
    merge_adapter(attached, tmp_path / "merged")
    assert_same(attached, ViTForImageClassification.from_pretrained(tmp_path / "merged"))
    assert torch.equal(named(attached.network), before), "the adapter is as it was"
    processor = ViTImageProcessor.from_pretrained(tmp_path / "merged")
    assert processor.size["height"] == 8
    note = json.loads((tmp_path / "merged/superlora_merge.json").read_text())
    assert note["parameters"] == attached.adapter.num_parameters and note["config"]["variant"] == "lorta"
    assert "ViTForImageClassification" in (tmp_path / "merged/README.md").read_text()


def test_at_another_scale(place, tmp_path):
    attached = open_adapter(str(place / "frozen"))
    fill(attached.adapter)
    whole = attached.adapter.deltas()
    merge_adapter(attached, tmp_path / "half", 0.5)
    merged = ViTForImageClassification.from_pretrained(tmp_path / "half").base_model
    base = ViTForImageClassification.from_pretrained(place / "vit").base_model
    for name, delta in whole.items():
        weights = (network.get_submodule(name).weight.detach() for network in (merged, base))
        torch.testing.assert_close(next(weights) - next(weights), delta / 2, rtol=1e-3, atol=1e-5)


# PEFT asks transformers 5 by a name that it is leaving behind.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_reads_it_on_the_plain_classifier(attached, place, tmp_path):
    written = export_adapter(attached, "peft", tmp_path / "peft", Precision(max_error=1e-6))
    assert written.report.overall < 1e-6
    network = ViTForImageClassification.from_pretrained(place / "vit")
    assert_same(attached, PeftModel.from_pretrained(network, tmp_path / "peft"))
    told = json.loads((tmp_path / "peft/adapter_config.json").read_text())
    assert told["modules_to_save"] == (["classifier"] if attached.classifier.head_trains else None)


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
def test_formats_of_pipelines_are_refused(place, tmp_path, format):
    attached = open_adapter(str(place / "frozen"))
    out = tmp_path / ("a.safetensors" if format == "kohya" else "a")
    with pytest.raises(ConfigError, match=f"format {format} is for pipelines.*Use format peft"):
        export_adapter(attached, format, out)
    assert not out.exists()


def test_what_was_trained_is_what_is_merged(place, tmp_path):
    """From the run's folder, without changing a number: the head of the run, not the base's."""
    for head in HEADS:
        merge_adapter(open_adapter(str(place / head)), tmp_path / head)
        own = open_classifier(str(place / head))
        merged = ViTForImageClassification.from_pretrained(tmp_path / head)
        torch.testing.assert_close(named(merged), named(own.base.network), rtol=TOLERANCE, atol=TOLERANCE)
        assert torch.equal(merged.classifier.weight, own.base.head.weight)
