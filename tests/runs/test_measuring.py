"""What ``inspect --measure`` measures, against updates and weights taken from the network itself."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_base

from superlora_diffusion.errors import BaseModelError
from superlora_diffusion.peers.config import PeftSettings
from superlora_diffusion.runs.measuring import heat_map_of, measure_adapter, place_of

from .adapters import save_ours, save_peer, tiny_base

SETTINGS = {
    "lora": dict(variant="lora", rank=2),
    "lorta": dict(variant="lorta", rank=3, scale=0.5),
    "spectral": dict(variant="spectral", directions=3),
    "kernels": dict(targets=["conv1", "to_q"], groups="shape", order=2, rank=2),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("measured") / "base")


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_target_against_its_weight(setting, base, tmp_path):
    adapter = save_ours(tmp_path, base, **SETTINGS[setting])
    calls = []
    found = measure_adapter(tmp_path, on_target=lambda: calls.append(1))
    assert (found.base, found.problem, found.left_out) == (str(base), None, {})
    assert [target.name for target in found.targets] == [target.name for target in adapter.targets]
    assert len(calls) == len(found.targets)
    network, deltas = make_base().network, adapter.deltas()
    for target in found.targets:
        delta, weight = deltas[target.name].detach(), network.get_submodule(target.name).weight.detach()
        assert target.shape == tuple(weight.shape)
        assert target.size.norm == pytest.approx(float(delta.double().norm())) and target.size.norm > 0
        assert target.weight_norm == pytest.approx(float(weight.double().norm()))
        assert target.ratio == pytest.approx(float(delta.norm() / weight.norm()), rel=1e-5)
    together = torch.cat([delta.detach().flatten() for delta in deltas.values()])
    weights = torch.cat([network.get_submodule(name).weight.detach().flatten() for name in deltas])
    assert found.norm == pytest.approx(float(together.norm()), rel=1e-5)
    assert found.ratio == pytest.approx(float(together.norm() / weights.norm()), rel=1e-5)


def test_without_the_base_the_rest_is_measured(base, tmp_path):
    save_ours(tmp_path / "gone", tmp_path / "nowhere", variant="lora", rank=2)
    save_ours(tmp_path / "there", base, variant="lora", rank=2)
    gone, there = measure_adapter(tmp_path / "gone"), measure_adapter(tmp_path / "there")
    assert gone.base is None and "nowhere" in gone.problem
    assert gone.ratio is None and all(target.ratio is None for target in gone.targets)
    assert [target.size for target in gone.targets] == [target.size for target in there.targets]
    assert gone.norm == there.norm > 0
    named = measure_adapter(tmp_path / "gone", str(base))
    assert named.ratio == there.ratio and named.problem is None
    save_ours(tmp_path / "silent", None, variant="lora", rank=2)
    assert "does not say which base" in measure_adapter(tmp_path / "silent").problem


def test_directions_of_the_base_need_it_or_be_stored(base, tmp_path):
    adapter = save_ours(tmp_path / "gone", tmp_path / "nowhere", variant="spectral")
    gone = measure_adapter(tmp_path / "gone")
    assert gone.targets == () and "nowhere" in gone.problem
    named = measure_adapter(tmp_path / "gone", str(base))
    assert named.problem is None and len(named.targets) == len(adapter.targets) and named.norm > 0
    adapter.save_pretrained(tmp_path / "gone", store_projection=True)
    stored = measure_adapter(tmp_path / "gone")
    assert stored.norm == pytest.approx(named.norm, rel=1e-6) and stored.ratio is None


def test_a_base_that_was_asked_for_must_be_there(tmp_path):
    save_ours(tmp_path, None, variant="lora", rank=2)
    with pytest.raises(BaseModelError, match=r"nowhere"):
        measure_adapter(tmp_path, "nowhere")


def test_json_is_plain_and_whole(base, tmp_path):
    save_ours(tmp_path, base, variant="lora", rank=2)
    found = measure_adapter(tmp_path)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    first = found.targets[0]
    assert told["norm"] == found.norm and told["ratio"] == found.ratio and told["base"] == str(base)
    assert told["targets"][0] == {
        "name": first.name,
        "layer": first.layer,
        "kind": first.kind,
        "shape": [16, 16],
        "norm": first.size.norm,
        "largest": first.size.largest,
        "effective_rank": first.size.effective_rank,
        "rank": 2,
        "weight_norm": first.weight_norm,
        "ratio": first.ratio,
    }


def test_damaged_numbers_have_no_size(base, tmp_path):
    save_ours(tmp_path, base, variant="lora", rank=2)
    file = tmp_path / "adapter_model.safetensors"
    numbers = load_file(file)
    next(iter(numbers.values()))[0, 0] = math.nan
    save_file(numbers, file)
    found = measure_adapter(tmp_path)
    damaged = [target for target in found.targets if target.size.norm is None]
    assert len(damaged) == 1 and damaged[0].ratio is None
    assert found.norm is None and found.ratio is None
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_library_of_others_is_measured_on_its_base(base, tmp_path):
    peer = save_peer(tmp_path, "peft", PeftSettings(tuner="lora", options={"r": 3}), base)
    found = measure_adapter(tmp_path)
    network = make_base().network
    assert [target.name for target in found.targets] == list(peer.attached.layers) and found.targets
    for target in found.targets:
        layer = peer.network.get_submodule(target.name)
        delta = layer.get_delta_weight("default").detach()
        weight = network.get_submodule(target.name).weight.detach()
        assert target.size.norm == pytest.approx(float(delta.norm()), rel=1e-5) and target.size.rank == 3
        assert target.ratio == pytest.approx(float(delta.norm() / weight.norm()), rel=1e-5)
    assert {target.kind for target in found.targets} == {"to_q", "to_v"}
    assert found.base == str(base)


def test_parameters_of_the_base_are_measured_too(base, tmp_path):
    peer = save_peer(tmp_path, "bitfit", None, base)
    found = measure_adapter(tmp_path)
    full = {target.name: target.name.replace(":", ".") for target in found.targets}
    assert list(full.values()) == list(peer.parameters) and "conv_out:bias" in full
    assert {target.kind for target in found.targets} == {"bias"}
    before = dict(make_base().network.named_parameters())
    for target in found.targets:
        delta = (peer.parameters[full[target.name]] - before[full[target.name]]).detach()
        assert target.size.norm == pytest.approx(float(delta.norm()), rel=1e-5) and target.size.rank == 1


def test_a_peer_without_its_base_says_so(tmp_path):
    save_peer(tmp_path, "bitfit", None, tmp_path / "nowhere")
    found = measure_adapter(tmp_path)
    assert found.targets == () and "nowhere" in found.problem and found.base is None


def test_places():
    assert place_of("down.0.attn.to_q", ["to_q", "to_v"]) == ("down.0.attn", "to_q")
    assert place_of("down.0.attn.to_out.0", ["attention"]) == ("down.0.attn", "to_out.0")
    assert place_of("conv_in", ["conv_in"]) == ("", "conv_in")
    assert place_of("mid.norm.bias", ["to_q"]) == place_of("mid.norm.bias", []) == ("mid.norm", "bias")


def test_the_heat_map_shows_ratios_or_else_norms(base, tmp_path):
    save_ours(tmp_path / "gone", None, variant="lora", rank=2)
    save_ours(tmp_path / "there", base, variant="lora", rank=2)
    gone, there = measure_adapter(tmp_path / "gone"), measure_adapter(tmp_path / "there")
    chart = heat_map_of(there, "mine")
    assert chart.title == "mine" and chart.columns == ("to_q", "to_v") and len(chart.rows) == 4
    assert len(chart.values) == 8 and chart.label.startswith("||dW|| / ||W||")
    for target in there.targets:
        assert chart.values[target.layer, target.kind] == target.ratio
    other = heat_map_of(gone, "mine")
    assert other.label.startswith("||dW|| (") and "base was not read" in other.label
    assert {other.values[target.layer, target.kind] for target in gone.targets} == {
        target.size.norm for target in gone.targets
    }
