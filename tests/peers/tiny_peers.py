"""What the tests of peers share: the tiny network, its inputs, a few steps of training."""

from __future__ import annotations

import functools

import torch
from tiny import make_base
from torch import Tensor, nn

from superlora_diffusion.peers import Peer, attach_peer
from superlora_diffusion.peers.config import LycorisSettings, PeftSettings

SHAPES = [(16, 16)] * 8
"""(out, in) of to_q and to_v in the tiny base's four attention layers."""


def network() -> nn.Module:
    """The tiny base's network, the same at each call."""
    return make_base().network


def peft(tuner: str, seed: int = 3, targets=("to_q", "to_v"), on=None, **options) -> Peer:
    """A tuner on a network, by default a fresh tiny one."""
    settings = PeftSettings(tuner=tuner, targets=targets, options=options)
    return attach_peer(on or network(), "peft", settings, seed)


def lycoris(algo: str, seed: int = 3, targets=("to_q", "to_v"), on=None, **options) -> Peer:
    settings = LycorisSettings(algo=algo, targets=targets, options=options)
    return attach_peer(on or network(), "lycoris", settings, seed)


@functools.cache
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([7, 600]), torch.tensor([1, 3])


def output(model: nn.Module) -> Tensor:
    """The network's prediction in evaluation mode, (2, 3, 8, 8)."""
    images, timesteps, labels = inputs()
    was, _ = model.training, model.eval()
    with torch.no_grad():
        predicted = model(images, timesteps, class_labels=labels).sample
    model.train(was)
    return predicted


@functools.cache
def base_output() -> Tensor:
    return output(network())


def few_steps(peer: Peer, steps: int = 3) -> None:
    """Train by what the peer says it trains, with plain AdamW."""
    images, timesteps, labels = inputs()
    optimizer = torch.optim.AdamW(peer.parameters.values(), lr=0.02)
    peer.network.train()
    for _ in range(steps):
        predicted = peer.network(images, timesteps, class_labels=labels).sample
        (predicted - images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    peer.network.eval()


def numbers(peer: Peer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in peer.parameters.items()}


def _attached_under(make, state: int) -> Peer:
    """A fresh peer; torch's global state, which is set to ``state``, neither decides anything nor moves."""
    fresh = network()
    torch.manual_seed(state)
    before = torch.random.get_rng_state()
    peer = make(fresh)
    assert torch.equal(torch.random.get_rng_state(), before)
    return peer


def assert_lives_as_a_peer(make, tmp_path, reload, start=0.0) -> Peer:
    """Everything that a run relies on, for the method that ``make`` attaches to a fresh network."""
    peer, again = (_attached_under(make, state) for state in (11, 12))
    first = numbers(peer)
    assert (output(peer.network) - base_output()).abs().max() <= start

    assert first.keys() == again.parameters.keys()
    assert all(torch.equal(value, again.parameters[name]) for name, value in first.items())
    fixed = peer.fixed()
    assert all(torch.equal(value, fixed[name]) for name, value in again.fixed().items())

    counted = [p for p in peer.network.parameters() if p.requires_grad]
    assert {id(p) for p in counted} == {id(p) for p in peer.parameters.values()}
    assert peer.num_parameters == sum(p.numel() for p in counted) > 0
    fixed = {name: value.clone() for name, value in fixed.items()}
    few_steps(peer)
    assert all(not torch.equal(value, peer.parameters[name]) for name, value in first.items())
    assert all(torch.equal(value, fixed[name]) for name, value in peer.fixed().items())
    trained = output(peer.network)
    assert (trained - base_output()).abs().max() > 1e-5
    with peer.disabled():
        assert torch.equal(output(peer.network), base_output())
        assert all(
            parameter.requires_grad for parameter in peer.before.parameters.values()
        )  # as the base came
        with peer.disabled():
            assert torch.equal(output(peer.network), base_output())
    with peer.cached():
        assert torch.equal(output(peer.network), trained)
    assert {id(p) for p in peer.network.parameters() if p.requires_grad} == {id(p) for p in counted}

    peer.save(tmp_path / "adapter")
    loaded = reload(network(), tmp_path / "adapter")
    assert torch.equal(output(loaded.network), trained)
    assert all(torch.equal(value, loaded.parameters[name]) for name, value in peer.parameters.items())
    with loaded.disabled():
        assert torch.equal(output(loaded.network), base_output())
    return peer
