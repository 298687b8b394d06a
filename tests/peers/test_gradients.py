"""Checkpointed blocks and half precision give a peer the gradients of the plain pass."""

from __future__ import annotations

import pytest
import torch

from superlora_diffusion.peers import attach_peer

from .tiny_peers import few_steps, inputs, lycoris, network, peft

PEERS = {
    "peft": lambda: peft("vera", r=8),
    "unilora": lambda: peft("unilora", theta_d_length=64),
    "lycoris": lambda: lycoris("loha", lora_dim=2),
    "difffit": lambda: attach_peer(network(), "difffit", None, 0),
}


def gradients(peer, dtype=None, checkpointing=False):
    if checkpointing:
        peer.network.enable_gradient_checkpointing()
    peer.network.train()
    images, timesteps, labels = inputs()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        predicted = peer.network(images, timesteps, class_labels=labels).sample
    (predicted.float() - images).square().mean().backward()
    return torch.cat([parameter.grad.flatten() for parameter in peer.parameters.values()])


@pytest.mark.parametrize("name", PEERS)
def test_checkpointing_changes_no_gradient(name):
    peers = [PEERS[name]() for _ in range(2)]
    for peer in peers:
        few_steps(peer)  # away from the start, where gradients vanish
    plain, checkpointed = gradients(peers[0]), gradients(peers[1], checkpointing=True)
    assert plain.abs().max() > 0
    torch.testing.assert_close(checkpointed, plain)


@pytest.mark.parametrize("name", PEERS)
def test_half_precision_is_near_and_the_numbers_stay_fp32(name):
    peers = [PEERS[name]() for _ in range(2)]
    for peer in peers:
        few_steps(peer)
    plain, half = gradients(peers[0]), gradients(peers[1], torch.bfloat16)
    assert torch.nn.functional.cosine_similarity(plain, half, dim=0) > 0.97
    assert not torch.equal(plain, half)
    assert {parameter.dtype for parameter in peers[1].parameters.values()} == {torch.float32}
