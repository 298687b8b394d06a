"""What a peer changes in the weights: the base with these changes added computes what the peer computes."""

from __future__ import annotations

import pytest
import torch

from superlora_diffusion.peers import attach_peer
from superlora_diffusion.peers.deltas import peer_deltas

from .tiny_peers import few_steps, lycoris, network, output, peft

PEERS = {
    "lora": lambda: peft("lora", r=3),
    "lora-bias": lambda: peft("lora", r=3, bias="all"),
    "dora": lambda: peft("lora", r=3, use_dora=True),
    "pissa": lambda: peft("lora", r=3, init_lora_weights="pissa"),
    "boft": lambda: peft("boft"),
    "fourierft": lambda: peft("fourierft", n_frequency=20),
    "beft": lambda: peft("beft"),
    "ia3": lambda: peft("ia3"),
    "vera": lambda: peft("vera", r=8),
    "osf": lambda: peft("osf"),
    "loha": lambda: lycoris("loha", lora_dim=2),
    "lokr": lambda: lycoris("lokr"),
    "bitfit": lambda: attach_peer(network(), "bitfit", None, 0),
    "norms": lambda: attach_peer(network(), "norms", None, 0),
}


def trained(name):
    peer = PEERS[name]()
    few_steps(peer)
    return peer


def weight_name(model, name) -> str:
    """A target's name means its weight; a parameter's own name itself."""
    return name if name in dict(model.named_parameters()) else f"{name}.weight"


@pytest.mark.parametrize("name", PEERS)
def test_added_to_the_base_they_are_the_peer(name):
    peer, base = trained(name), network()
    expected, before = output(peer.network), output(base)
    deltas, weights, left_out = peer_deltas(peer)
    assert left_out == {} and deltas.keys() == weights.keys() and len(deltas) >= 8
    parameters = dict(base.named_parameters())
    with torch.no_grad():
        for target, delta in deltas.items():
            parameter = parameters[weight_name(base, target)]
            assert torch.allclose(weights[target].float(), parameter, atol=1e-6), "the base's own weight"
            parameter.add_(delta)
    assert (expected - before).abs().max() > 1e-4
    error = (output(base) - expected).abs().max() / (expected - before).abs().max()
    assert error < 1e-3, error
    layers = {*peer.attached.layers} & deltas.keys()
    biases = [target for target in deltas if target.endswith(".bias")]
    # ia3 scales a layer's whole answer, BEFT moves the bias alone; the others leave biases as they are.
    assert bool(biases) == (name in ("ia3", "beft", "lora-bias", "bitfit", "norms")), biases
    assert len(layers) == len(peer.attached.layers)


def test_their_rank_is_not_lost_in_rounding():
    deltas, _, _ = peer_deltas(trained("lora"))
    assert len(deltas) == 8
    assert {int(torch.linalg.matrix_rank(delta, rtol=1e-5)) for delta in deltas.values()} == {3}
    assert {delta.dtype for delta in deltas.values()} == {torch.float64}


def test_what_is_no_change_of_a_weight_is_left_out_with_why():
    peer = peft("lora", targets=("to_q", "conv1"), r=2)
    few_steps(peer)
    deltas, _, left_out = peer_deltas(peer)
    assert {name.rpartition(".")[2] for name in deltas} == {"to_q"}
    assert {name.rpartition(".")[2] for name in left_out} == {"conv1"}
    assert all("no Linear layer" in why for why in left_out.values())

    lily = peft("lily", r=4)
    few_steps(lily)
    deltas, _, left_out = peer_deltas(lily)
    assert deltas == {} and len(left_out) == 8
    assert all("depends on its input" in why for why in left_out.values())

    difffit = attach_peer(network(), "difffit", None, 0)
    deltas, _, left_out = peer_deltas(difffit)
    assert deltas and left_out and all(name.endswith(".gamma") for name in left_out)
    assert not any(name.endswith(".gamma") for name in deltas)
    assert len(deltas) + len(left_out) == len(difffit.parameters)


def test_what_cannot_compute_in_double_precision_is_left_out():
    boft = lycoris("boft")
    few_steps(boft)
    deltas, _, left_out = peer_deltas(boft)
    assert deltas == {} and len(left_out) == 8
    assert all("double precision" in why for why in left_out.values())
