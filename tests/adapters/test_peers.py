"""The same numbers in PEFT and LyCORIS make the same network."""

from __future__ import annotations

import copy

import pytest
import torch
from lycoris.modules.lokr import LokrModule
from peft import LoKrConfig, LoraConfig, inject_adapter_in_model
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach, find_targets

from .networks import distance, fill, inputs_for, output, small_unet, tree


class Net(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.to_q = layer

    def forward(self, x):
        return self.to_q(x)


QKVO = ["to_q", "to_k", "to_v", "to_out.0"]


def loss_of(result):
    return result.pow(2).mean()


def peer_parameters(peer, target: str) -> dict[str, nn.Parameter]:
    """{short PEFT name: parameter} of one adapted layer."""
    named = peer.get_submodule(target).named_parameters()
    return {name.split(".")[0]: parameter for name, parameter in named if "base_layer" not in name}


@pytest.mark.parametrize("targets", [["to_q", "to_v"], QKVO], ids=["qv", "qkvo"])
def test_lora_is_pefts(targets):
    ours, base = small_unet(), output(small_unet(), inputs_for("unet"))
    peer = copy.deepcopy(ours)
    adapter = attach(ours, SuperLoRAConfig(variant="lora", rank=3, targets=targets, scale=2))
    fill(adapter)
    peer = inject_adapter_in_model(LoraConfig(r=3, lora_alpha=6, target_modules=targets), peer).eval()

    numbers = dict(adapter.named_parameters())
    pairs = []
    for g, (name, _, _) in enumerate(find_targets(ours, adapter.config)):
        theirs = peer_parameters(peer, name)
        pairs += [(numbers[f"g{g}_k1_a2"], theirs["lora_A"]), (numbers[f"g{g}_k1_a1"], theirs["lora_B"])]
    # A is (rank, in): ours transposed; B is (out, rank): ours as it is.
    with torch.no_grad():
        for i, (mine, theirs) in enumerate(pairs):
            theirs.copy_(mine.T if i % 2 == 0 else mine)

    inputs = inputs_for("unet")
    mine, theirs = output(ours, inputs), output(peer, inputs)
    assert distance(mine, base) > 0.05
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    loss_of(mine).backward()
    loss_of(theirs).backward()
    for i, (a, b) in enumerate(pairs):
        assert a.grad.abs().sum() > 0
        assert distance(a.grad, b.grad.T if i % 2 == 0 else b.grad) < 1e-3


def test_lora_on_a_convolution_is_pefts():
    model = Net(nn.Conv2d(5, 7, (3, 2)))
    peer = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(variant="lora", rank=4, targets=["to_q"]))
    fill(adapter)
    peer = inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q"]), peer)
    theirs, numbers = peer_parameters(peer, "to_q"), dict(adapter.named_parameters())
    with torch.no_grad():
        theirs["lora_A"].copy_(numbers["g0_k1_a2"].T.reshape(theirs["lora_A"].shape))
        theirs["lora_B"].copy_(numbers["g0_k1_a1"].reshape(theirs["lora_B"].shape))
    expected = peer.get_submodule("to_q").get_delta_weight("default")
    torch.testing.assert_close(adapter.deltas()["to_q"], expected)
    x = torch.randn(2, 5, 8, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), peer(x), rtol=1e-4, atol=1e-5)
    assert expected.abs().max() > 0.1


def test_lokr_is_pefts():
    channels = (32, 64)
    ours = small_unet(channels)
    peer = copy.deepcopy(ours)
    base = output(ours, inputs_for("unet")).detach()
    adapter = attach(ours, SuperLoRAConfig(variant="lokr", split_factor=4, rank=2))
    fill(adapter)
    config = LoKrConfig(r=2, alpha=2, decompose_factor=4, target_modules=["to_q", "to_v"])
    peer = inject_adapter_in_model(config, peer).eval()
    numbers = dict(adapter.named_parameters())
    pairs = []
    for g, (name, _, _) in enumerate(find_targets(ours, adapter.config)):
        theirs = peer_parameters(peer, name)
        assert theirs.keys() == {"lokr_w1", "lokr_w2_a", "lokr_w2_b"}
        pairs += [
            (numbers[f"g{g}_k1_b"], theirs["lokr_w1"], False),
            (numbers[f"g{g}_k2_a1"], theirs["lokr_w2_a"], False),
            (numbers[f"g{g}_k2_a2"], theirs["lokr_w2_b"], True),
        ]
    with torch.no_grad():
        for mine, theirs, turned in pairs:
            theirs.copy_(mine.T if turned else mine)
    assert adapter.num_parameters == sum(theirs.numel() for _, theirs, _ in pairs)

    inputs = inputs_for("unet")
    mine, theirs = output(ours, inputs), output(peer, inputs)
    assert distance(mine, base) > 0.05
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    loss_of(mine).backward()
    loss_of(theirs).backward()
    for a, b, turned in pairs:
        assert a.grad.abs().sum() > 0
        assert distance(a.grad, b.grad.T if turned else b.grad) < 1e-3


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (24, 32, 3, 3), (32, 40, 1, 1)], ids=str)
def test_lokr_is_lycoris(shape):
    """A Linear or Conv2d whose sides the factor divides; kernels go with the columns."""
    model = tree([("to_q", shape)])
    adapter = attach(model, SuperLoRAConfig(variant="lokr", split_factor=4, rank=2, targets=["to_q"]))
    fill(adapter)
    peer = LokrModule("to_q", tree([("to_q", shape)]).to_q, lora_dim=2, alpha=2, factor=4)
    numbers = dict(adapter.named_parameters())
    with torch.no_grad():
        peer.lokr_w1.copy_(numbers["g0_k1_b"])
        peer.lokr_w2_a.copy_(numbers["g0_k2_a1"])
        peer.lokr_w2_b.copy_(numbers["g0_k2_a2"].T)
    expected, _ = peer.get_diff_weight(shape=shape)
    torch.testing.assert_close(adapter.deltas()["to_q"], expected)
    assert expected.abs().max() > 0.1
    assert adapter.num_parameters == sum(p.numel() for name, p in peer.named_parameters() if "lokr" in name)
