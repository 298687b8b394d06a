"""BitFit, norms and DiffFit: which of the network's own numbers train, and that the base can be had back."""

from __future__ import annotations

import pytest
import torch
from tiny import make_base
from torch import nn

from superlora_diffusion.errors import AdapterError
from superlora_diffusion.peers import attach_peer, load_peer

from .tiny_peers import assert_lives_as_a_peer, network, output


def layers(kind):
    return [module for module in network().modules() if isinstance(module, kind)]


def biases() -> int:
    """Biases of the tiny network by its layers: each Linear, Conv2d and GroupNorm has one number an output."""
    linear = sum(layer.out_features for layer in layers(nn.Linear))
    return linear + sum(layer.out_channels for layer in layers(nn.Conv2d)) + norm_channels()


def norm_channels() -> int:
    return sum(layer.num_channels for layer in layers(nn.GroupNorm))


EMBEDDING = 5 * 32  # four classes and the null class, by four times the first block's channels
SCALES = 4 * 16 + sum(  # attention layers, and the ResNet blocks' outputs
    module.conv2.out_channels for module in network().modules() if hasattr(module, "conv2")
)
COUNTS = {
    "bitfit": biases(),
    "norms": 2 * norm_channels(),
    "difffit": biases() + norm_channels() + EMBEDDING + SCALES,
}


@pytest.mark.parametrize("method", COUNTS)
def test_a_method_of_the_base_lives_as_a_peer(method, tmp_path):
    def make(fresh):
        return attach_peer(fresh, method, None, 0)

    peer = assert_lives_as_a_peer(make, tmp_path, load_peer)
    assert peer.num_parameters == COUNTS[method]
    assert not (tmp_path / "adapter" / "fixed.safetensors").exists()


def test_only_biases_move_under_bitfit():
    peer = attach_peer(network(), "bitfit", None, 0)
    assert all(name.endswith(".bias") for name in peer.parameters)
    assert {id(p) for n, p in peer.network.named_parameters() if n.endswith(".bias")} == {
        id(p) for p in peer.parameters.values()
    }


def test_the_scales_of_difffit_scale_what_a_block_adds_to_its_input():
    """With gamma 0 a block is its shortcut: the same network with the ends of the branches set to zero."""
    peer, zeroed = attach_peer(network(), "difffit", None, 0), network()
    with torch.no_grad():
        for name, value in peer.parameters.items():
            if name.endswith(".gamma"):
                value.zero_()
        ends = [n for n, _ in zeroed.named_modules() if n.endswith((".conv2", ".to_out.0"))]
        for name in ends:
            zeroed.get_submodule(name).weight.zero_()
            zeroed.get_submodule(name).bias.zero_()
    assert len(ends) == sum(name.endswith(".gamma") for name in peer.parameters)
    torch.testing.assert_close(output(peer.network), output(zeroed))
    assert not torch.allclose(output(peer.network), output(network()), atol=1e-2)


def test_difffit_without_classes_has_no_embedding():
    unconditional = make_base(classes=0).network
    peer = attach_peer(unconditional, "difffit", None, 0)
    assert peer.num_parameters == COUNTS["difffit"] - EMBEDDING and "class embedding" not in peer.what


@pytest.mark.parametrize("method", COUNTS)
def test_a_network_without_such_parts_is_refused(method):
    with pytest.raises(AdapterError, match="has n"):
        attach_peer(nn.Sequential(nn.Linear(3, 3, bias=False)), method, None, 0)
