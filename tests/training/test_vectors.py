"""A run whose targets are matrices, a norm, a bias and the class embedding; and what is done with its adapter."""

from __future__ import annotations

import pytest
import torch

from superlora_diffusion import load_adapter
from superlora_diffusion.adapters.deltas import deltas_of_folder
from superlora_diffusion.errors import AdapterError
from superlora_diffusion.exchange.exporting import export_adapter, open_adapter
from superlora_diffusion.models.storage import load_base
from superlora_diffusion.runs.inspection import inspect_adapter
from superlora_diffusion.runs.measuring import measure_adapter

TARGETS = ["to_q", "conv_norm_out", "conv_out:bias", "class_embedding"]
INPUTS = {
    "sample": torch.linspace(-1, 1, 2 * 3 * 64).view(2, 3, 8, 8),
    "timestep": torch.tensor([3, 700]),
    "class_labels": torch.tensor([1, 4]),
}


@torch.no_grad()
def answer(network):
    return network.eval()(**INPUTS).sample


def test_trained_saved_loaded_measured_and_merged(config, train, tmp_path):
    made = config(
        adapter={"targets": TARGETS, "variant": "dense", "groups": 1}, train={"steps": 3, "batch_size": 4}
    )
    train(made)
    folder = train.last.folder.adapter
    base = load_base(made.base)
    before = answer(base.network)
    adapter = load_adapter(base.network, folder)
    names = ["class_embedding", "conv_norm_out:weight", "conv_norm_out:bias", "conv_out:bias"]
    assert [target.name for target in adapter.targets if not target.name.endswith("to_q")] == names
    deltas = deltas_of_folder(folder)
    assert set(names) < set(deltas) and all(delta.any() for delta in deltas.values())
    for name, delta in adapter.deltas().items():
        assert torch.equal(delta, deltas[name])
    after = answer(base.network)
    assert not torch.allclose(after, before)
    adapter.merge()
    torch.testing.assert_close(answer(base.network), after)
    adapter.unload()
    assert torch.equal(answer(base.network), before)

    assert inspect_adapter(folder).targets.count == len(deltas)
    measured = {target.name: target for target in measure_adapter(folder).targets}
    assert (measured["conv_norm_out:bias"].layer, measured["conv_norm_out:bias"].kind) == (
        "conv_norm_out",
        "bias",
    )
    weight = base.network.conv_out.bias.double()
    assert measured["conv_out:bias"].weight_norm == pytest.approx(float(weight.norm().detach()))

    attached = open_adapter(str(train.last.folder.path))
    with pytest.raises(AdapterError, match=r"class_embedding is a weight of a Embedding.*Use format merged"):
        export_adapter(attached, "peft", tmp_path / "peft")
    export_adapter(attached, "merged", tmp_path / "merged")
    merged = type(base.network).from_pretrained(tmp_path / "merged" / "unet")
    torch.testing.assert_close(answer(merged), after)
