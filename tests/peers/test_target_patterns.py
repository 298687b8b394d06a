"""Peers choose their layers in the same language as an adapter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from superlora_diffusion.errors import AdapterError, ConfigError
from superlora_diffusion.peers import attach_peer, load_peer
from superlora_diffusion.peers.attaching import target_layers
from superlora_diffusion.peers.config import LycorisSettings, PeftSettings

from .tiny_peers import few_steps, network, numbers, output

PLACES = ("down_blocks.1", "up_blocks.0", "mid_block")


def attach(method, on=None, targets=("to_q", "to_v"), exclude=(), **fields):
    settings = {"peft": PeftSettings, "lycoris": LycorisSettings}[method]
    return attach_peer(on or network(), method, settings(targets=targets, exclude=exclude, **fields), 3)


@pytest.mark.parametrize(
    ("method", "fields"),
    [("peft", {"tuner": "lora"}), ("peft", {"tuner": "lily"}), ("lycoris", {"algo": "lokr"})],
    ids=["lora", "lily", "lokr"],
)
@pytest.mark.parametrize(
    ("targets", "exclude"), [("qv", ()), ("to_[qv]", ()), ("attention", ("to_k", "to_out.*"))], ids=str
)
def test_a_pattern_is_the_same_peer_as_its_names(targets, exclude, method, fields):
    """lily shares matrices among the layers of one ending, which it is told by name."""
    plain, peer = attach(method, **fields), attach(method, targets=targets, exclude=exclude, **fields)
    assert peer.attached.layers == plain.attached.layers and len(peer.attached.layers) == 8
    mine, theirs = numbers(peer), numbers(plain)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(("method", "fields"), [("peft", {"tuner": "lora"}), ("lycoris", {"algo": "lokr"})])
def test_excluded_layers_are_left_alone_and_a_stored_peer_opens(method, fields, tmp_path):
    peer = attach(method, exclude=["up_blocks.**", "mid_block.**.to_v"], **fields)
    names = [
        f"{place}.attentions.0.{name}"
        for place, name in ((PLACES[0], "to_q"), (PLACES[0], "to_v"), (PLACES[2], "to_q"))
    ]
    assert peer.attached.layers == names
    assert peer.num_parameters * 8 == attach(method, **fields).num_parameters * 3, (
        "all layers are of one shape"
    )
    few_steps(peer)
    peer.save(tmp_path)
    loaded = load_peer(network(), tmp_path)
    assert loaded.attached.layers == names and torch.equal(output(loaded.network), output(peer.network))
    with peer.disabled():
        assert not torch.equal(output(loaded.network), output(peer.network))


def test_one_layer_whose_name_ends_another():
    """PEFT would take a.to_q for an ending of b.a.to_q: it is given an expression."""
    inner = nn.ModuleDict({"to_q": nn.Linear(4, 4)})
    model = nn.ModuleDict({"a": inner, "b": nn.ModuleDict({"a": nn.ModuleDict({"to_q": nn.Linear(4, 4)})})})
    peer = attach("peft", model, targets="^a.to_q", options={"r": 2})
    assert peer.attached.layers == ["a.to_q"] and peer.num_parameters == 16


def test_norms_are_layers_by_name_and_not_in_presets():
    model = network()
    found = target_layers(model, PeftSettings(targets="mid_block.attentions.**"))
    assert found == [
        f"mid_block.attentions.0.{name}" for name in ("group_norm", "to_q", "to_k", "to_v", "to_out.0")
    ]
    assert not [name for name in target_layers(model, PeftSettings(targets="all-linear")) if "norm" in name]


def test_what_takes_nothing_is_refused_before_anything_is_attached():
    for targets, exclude, says in (
        ("to_z", (), r"'to_z' matches no Linear or Conv2d layer of UNet2DModel\. Did you mean 'to_"),
        ("to_q", ("to_v",), "takes away none of the 4 targets"),
        ("to_q", ("qv",), "all 4 layers .* excluded by qv"),
    ):
        for method in ("peft", "lycoris"):
            model = network()
            with pytest.raises(AdapterError, match=says):
                attach(method, model, targets=targets, exclude=exclude)
            assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ConfigError, match="exclude: got 'a"):
        PeftSettings(exclude="a**")
