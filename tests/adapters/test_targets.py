"""Which layers are targets, and every kind of layer as one."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict

import pytest
import torch
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach, find_targets
from superlora_diffusion.errors import AdapterError, SuperLoRAError

from .networks import (
    NETWORKS,
    distance,
    fields_for,
    fill,
    gradients,
    inputs_for,
    output,
    small_unet,
    tree,
    triples,
    with_deltas,
)


def attached(network):
    model = NETWORKS[network]()
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**fields_for(network, "group")))
    fill(adapter)
    return base, model, adapter


class Around(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.to_q = layer

    def forward(self, x):
        return self.to_q(x)


class TestTargets:
    SPEC = (
        ("b.to_v", (4, 3)),
        ("a.to_q", (2, 5, 3, 1)),
        ("a.to_qx", (2, 2)),
        ("a.not_to_q", (2, 2)),
        ("c.to_q", (3, 3)),
    )

    def test_whole_components_in_module_order(self):
        model = tree(self.SPEC)
        found = find_targets(model, SuperLoRAConfig(targets=["to_q", "to_v"]))
        wanted = [triple for triple in triples(self.SPEC) if triple[0] in ("b.to_v", "a.to_q", "c.to_q")]
        assert [tuple(target) for target in found] == [("b.to_v", 4, 3), ("a.to_q", 2, 15), ("c.to_q", 3, 3)]
        assert [tuple(target) for target in found] == wanted
        found = find_targets(model, SuperLoRAConfig(targets=["a.to_q"]))
        assert [target[0] for target in found] == ["a.to_q"]

    def test_targets_are_the_same_once_attached(self):
        for network in NETWORKS:
            base, model, adapter = attached(network)
            wanted = [tuple(target) for target in find_targets(base, adapter.config)]
            assert [tuple(target) for target in find_targets(model, adapter.config)] == wanted
            assert [tuple(target) for target in adapter.targets] == wanted
            assert list(adapter.deltas()) == [name for name, _, _ in wanted]

    @pytest.mark.parametrize(
        ("pattern", "near"),
        [("to_qq", "to_q"), ("toq", "to_q"), ("o_q", "to_q"), ("attn.to_v", "to_v"), ("To_q", "to_q")],
    )
    def test_a_pattern_that_matches_nothing_names_near_misses(self, pattern, near):
        for patterns in ([pattern], ["to_k", pattern]):
            model = small_unet()
            with pytest.raises(SuperLoRAError) as caught:
                attach(model, SuperLoRAConfig(targets=patterns))
            assert pattern in str(caught.value)
            assert re.search(rf"(?<![\w.]){near}(?!\w)", str(caught.value))
            assert all(parameter.requires_grad for parameter in model.parameters())

    def test_a_layer_of_another_kind_is_no_target(self):
        model = nn.ModuleDict({"norm": nn.BatchNorm2d(4), "to_q": nn.Linear(2, 2)})
        with pytest.raises(SuperLoRAError, match="'norm', which is a BatchNorm2d; Linear, Conv2d, GroupNorm"):
            attach(model, SuperLoRAConfig(targets=["norm"]))

    def test_the_same_name_twice_is_refused(self):
        _base, model, adapter = attached("mixed")
        expected = output(model, inputs_for("mixed"))
        with pytest.raises(AdapterError, match="default"):
            attach(model, adapter.config)
        assert torch.equal(output(model, inputs_for("mixed")), expected)

    def test_a_sequential_runs_its_layers_and_not_the_adapter(self):
        base = nn.Sequential(OrderedDict(to_q=nn.Linear(5, 7), act=nn.SiLU(), to_v=nn.Linear(7, 3)))
        model = copy.deepcopy(base)
        adapter = attach(model, SuperLoRAConfig(rank=3))
        fill(adapter)
        x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
        expected = with_deltas(base, adapter.deltas())(x)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
        assert distance(expected, base(x)) > 0.05

    def test_a_network_may_write_on_its_input_in_place(self):
        base = nn.Sequential(nn.ReLU(inplace=True), Around(nn.Linear(5, 7)))
        model = Around(copy.deepcopy(base))
        model.load_state_dict(Around(base).state_dict())
        adapter = attach(model, SuperLoRAConfig(targets=["to_q.1.to_q"], rank=3))
        fill(adapter)
        x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
        expected = with_deltas(Around(base), adapter.deltas())(x.clone())
        result = model(x.clone())
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        result.sum().backward()
        assert all(grad.abs().sum() > 0 for grad in gradients(adapter).values())

    @pytest.mark.parametrize(
        "layer",
        [
            nn.Linear(5, 7),
            nn.Linear(5, 7, bias=False),
            nn.Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
            nn.Conv2d(6, 4, 3, padding="same", padding_mode="reflect", bias=False),
            nn.Conv2d(6, 9, 3, groups=3),
            nn.Conv2d(6, 6, 3, groups=6, padding=1),
            nn.Embedding(11, 7, padding_idx=2),
        ],
        ids=str,
    )
    def test_each_kind_of_layer(self, layer):
        layer = copy.deepcopy(layer)
        base = Around(layer)
        model = copy.deepcopy(base)
        adapter = attach(model, SuperLoRAConfig(targets=["to_q"], rank=3))
        fill(adapter)
        assert adapter.deltas()["to_q"].shape == layer.weight.shape
        shape = (2, 5) if isinstance(layer, nn.Linear) else (2, 6, 9, 8)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        if isinstance(layer, nn.Embedding):
            x = torch.tensor([[2, 0, 9], [2, 4, 4]])
        expected = with_deltas(base, adapter.deltas())(x)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
        assert distance(expected, base(x)) > 0.05
        adapter.merge()
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
