"""Targets beside the weights of Linear and Conv2d layers: their names, their patterns, and what is said of a miss."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach, find_targets, load_adapter
from superlora_diffusion.adapters.grouping import make_grouping
from superlora_diffusion.adapters.host import host_of
from superlora_diffusion.adapters.naming import ending_of, layer_name
from superlora_diffusion.adapters.places import full_name, split_name, target_named
from superlora_diffusion.adapters.storage import base_weights
from superlora_diffusion.errors import AdapterError, ConfigError

from . import oracle
from .networks import (
    KINDS_TARGETS,
    fill,
    inputs_for,
    kinds_net,
    output,
    parameter_named,
    small_unet,
    with_deltas,
)
from .test_generation import numbers_for, put


def taken(model, *targets, exclude=()):
    return [target.name for target in find_targets(model, SuperLoRAConfig(targets=targets, exclude=exclude))]


NORMS = [f"blocks.{i}.norm:{parameter}" for i in (0, 1) for parameter in ("weight", "bias")]
BIASES = [
    "stem:bias",
    *(f"blocks.{i}.{layer}:bias" for i in (0, 1) for layer in ("norm", "to_q")),
    "norm_out:bias",
    "head:bias",
]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("to_q", ["blocks.0.to_q", "blocks.1.to_q"]),
        ("to_q:weight", ["blocks.0.to_q", "blocks.1.to_q"]),
        ("1.to_q:*", ["blocks.1.to_q", "blocks.1.to_q:bias"]),
        ("to_v:*", ["blocks.0.to_v", "blocks.1.to_v"]),
        ("norm", NORMS),
        ("norm:*", NORMS),
        ("blocks.1.norm:weight", NORMS[2:3]),
        ("^norm_out", ["norm_out:weight", "norm_out:bias"]),
        ("classes", ["classes"]),
        ("classes:*", ["classes"]),
        ("*norm*:weight", [*NORMS[::2], "norm_out:weight"]),
        ("**:bias", BIASES),
        ("all-linear", ["blocks.0.to_v", "blocks.1.to_v", "head"]),
        ("all-linear:*", ["blocks.0.to_v", "blocks.1.to_v", "head", "head:bias"]),
        ("qv:bias", ["blocks.0.to_q:bias", "blocks.1.to_q:bias"]),
        # As before there were others: wildcards take weights of Linear and Conv2d layers alone.
        ("**", ["stem", *(f"blocks.{i}.to_{x}" for i in (0, 1) for x in "qv"), "head"]),
    ],
)
def test_what_a_pattern_takes(pattern, names):
    model = kinds_net()
    assert taken(model, pattern) == names
    attach(model, SuperLoRAConfig(targets=[pattern], groups="weight", order=1))
    assert taken(model, pattern) == names, "and of an adapted network"


def test_a_name_that_a_linear_or_convolution_has_never_means_a_norm():
    model = nn.ModuleDict({"a": nn.ModuleDict({"norm": nn.LayerNorm(3)}), "b": nn.ModuleDict()})
    assert taken(model, "norm") == ["a.norm:weight", "a.norm:bias"]
    model["b"]["norm"] = nn.Linear(3, 3)
    assert taken(model, "norm") == ["b.norm"]
    assert taken(model, "norm:*") == ["a.norm:weight", "a.norm:bias", "b.norm", "b.norm:bias"]


def test_sizes():
    found = find_targets(kinds_net(), SuperLoRAConfig(targets=["classes", "norm_out", "head:*"]))
    assert [tuple(target) for target in found] == [
        ("classes", 5, 6),
        ("norm_out:weight", 1, 6),
        ("norm_out:bias", 1, 6),
        ("head", 5, 6),
        ("head:bias", 1, 5),
    ]
    model = nn.ModuleDict({"norm": nn.LayerNorm((2, 3))})
    assert tuple(find_targets(model, SuperLoRAConfig(targets="norm"))[0]) == ("norm:weight", 1, 6)


def test_a_target_and_its_parameter_name_each_other():
    model = kinds_net()
    found = find_targets(model, SuperLoRAConfig(targets=["**", "classes", "**:*"]))
    assert len(found) == 17
    full = {target.name: full_name(target.name) for target in found}
    assert full["head"] == "head.weight" and full["head:bias"] == "head.bias"
    assert full["norm_out:weight"] == "norm_out.weight"
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert set(full.values()) == set(shapes)
    assert {target_named(name, len(shape)): name for name, shape in shapes.items()} == full
    assert split_name("a:b") == ("a:b", "weight") and split_name("a:b:bias") == ("a:b", "bias")
    assert [full_name(name) for name in ("", ":bias")] == ["weight", "bias"], "of a network that is one layer"
    assert [target_named(name, 2) for name in ("weight", "pos_embed", "a.gamma")] == [
        "weight",
        "pos_embed",
        "a.gamma",
    ]


def test_exclusions():
    model = kinds_net()
    assert taken(model, "**:bias", exclude=["norm", "^blocks.**:*"]) == [
        "stem:bias",
        "norm_out:bias",
        "head:bias",
    ]
    assert taken(model, "head:*", exclude=["head"]) == ["head:bias"]
    assert taken(model, "norm", exclude=["*:weight"]) == NORMS[1::2]
    with pytest.raises(
        AdapterError, match=r"exclude 'blocks\.\*\*' takes away none .*'blocks\.\*\*:\*' takes away 4"
    ):
        taken(model, "**:bias", exclude=["blocks.**"])


class Odd(nn.LayerNorm):
    """A class of its own."""


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("bare", "'bare', a LayerNorm that has no weight or bias"),
        ("bare:bias", "'bare', a LayerNorm that has no bias"),
        ("to_v:bias", r"'blocks.0.to_v', a Linear that has no bias"),
        ("norn", "Did you mean 'norm'"),
        ("head:biass", "behind a colon give weight, bias or \\*"),
        ("haed:bias", "no layer of KindsNet with a bias. Did you mean 'head:bias'.*end in: stem, norm, to_q"),
        ("*norm*", r"but 'blocks.0.norm:weight', .* write '\*norm\*:\*', which takes 6"),
        (
            "blocks:bias",
            r"'blocks', which is a ModuleList.*Inside it: blocks.0.norm:bias.*blocks.\*\*:bias takes 4",
        ),
        ("odd", "'odd', which is a Odd; Linear, Conv2d, GroupNorm, LayerNorm, Embedding"),
        ("odd:*", "'odd', which is a Odd"),
        ("changing", "'changing', which is a Embedding"),
    ],
)
def test_what_takes_nothing_is_an_error_that_helps(pattern, says):
    model = kinds_net()
    model.odd, model.changing = Odd(3), nn.Embedding(3, 3, max_norm=1.0)
    with pytest.raises((AdapterError, ConfigError), match=says):
        taken(model, pattern)


def test_a_vector_belongs_to_its_own_layer():
    assert layer_name("a.norm:weight", ["norm"]) == "a.norm"
    assert layer_name("a.attn.to_q:bias", ["**:bias"]) == "a.attn.to_q"
    assert layer_name("a.attn.to_q", ["to_q:*"]) == layer_name("a.attn.to_q", ["to_q:weight"]) == "a.attn"
    assert layer_name("a.attn.to_q", ["attn.*", "attn.to_q:bias"]) == "a.attn"
    assert [ending_of(name) for name in ("a.to_out.0:bias", "a.to_out.0")] == ["to_out.0:bias", "to_out.0"]
    config = SuperLoRAConfig(targets=["norm", "to_q:*"], groups="layer")
    targets = find_targets(kinds_net(), config)
    members = make_grouping(config, targets).members
    names = [[targets[index].name for index in group] for group in members]
    one = [["blocks.0.norm:weight", "blocks.0.norm:bias"], ["blocks.0.to_q"], ["blocks.0.to_q:bias"]]
    assert names == one + [[name.replace("0", "1") for name in group] for group in one]


@pytest.mark.parametrize(
    "fields",
    [
        {
            "groups": 3,
            "order": 3,
            "core": "full",
            "rank": 2,
            "fold": "square",
            "projection": "fastfood",
            "ratio": 0.5,
        },
        {"groups": "shape", "order": 3, "core": "full", "rank": 2, "fold": "stack"},
        {"groups": "weight", "order": 2, "fold": "none", "rank": 2},
    ],
    ids=lambda fields: str(fields["groups"]),
)
def test_the_joint_vector_equals_the_slow_twin(fields):
    model = kinds_net()
    adapter = attach(model, SuperLoRAConfig(targets=KINDS_TARGETS, **fields))
    targets = [tuple(target) for target in adapter.targets]
    numbers = numbers_for(oracle.resolve({"targets": KINDS_TARGETS, **fields}), targets)
    put(adapter, numbers)
    expected = oracle.deltas(oracle.resolve({"targets": KINDS_TARGETS, **fields}), targets, numbers)
    assert list(expected) == list(adapter.deltas())
    for name, delta in adapter.deltas().items():
        assert delta.shape == parameter_named(model, name).shape
        wanted = torch.from_numpy(expected[name]).reshape(delta.shape).float()
        torch.testing.assert_close(delta.detach(), wanted, rtol=1e-4, atol=1e-5)
        assert wanted.abs().sum() > 0, name


def test_merged_and_kept_the_base_is_told_as_it_was():
    base = kinds_net()
    model = copy.deepcopy(base)
    adapter = attach(model, SuperLoRAConfig(targets=KINDS_TARGETS, groups="weight", order=1))
    fill(adapter)
    deltas = {name: delta.detach() for name, delta in adapter.deltas().items()}
    expected = output(with_deltas(base, deltas), inputs_for("kinds"))
    adapter.merge()
    assert all(torch.equal(base_weights(model)[name], value) for name, value in base.named_parameters())
    torch.testing.assert_close(output(model, inputs_for("kinds")), expected)
    adapter.unload(keep_merged=True)
    assert host_of(model) is None and type(model.norm_out) is nn.LayerNorm
    for name, value in with_deltas(base, deltas).named_parameters():
        assert torch.equal(model.get_parameter(name), value), name


def test_two_adapters_on_different_parameters_of_one_layer():
    base = kinds_net()
    model = copy.deepcopy(base)
    both = [
        attach(model, SuperLoRAConfig(targets=[pattern], groups="weight", order=1), name=name)
        for name, pattern in (("one", "norm:bias"), ("two", "norm"))
    ]
    for seed, adapter in enumerate(both):
        fill(adapter, seed=seed)
    inputs, deltas = inputs_for("kinds"), [adapter.deltas() for adapter in both]
    torch.testing.assert_close(output(model, inputs), output(with_deltas(base, *deltas), inputs))
    both[1].unload()
    torch.testing.assert_close(output(model, inputs), output(with_deltas(base, deltas[0]), inputs))
    both[0].unload()
    assert torch.equal(output(model, inputs), output(base, inputs))


@pytest.mark.parametrize("route", ["weight", "products"])
def test_rows_of_an_embedding_either_way(route):
    base = kinds_net()
    model = copy.deepcopy(base)
    adapter = attach(model, SuperLoRAConfig(targets="classes", variant="lora", rank=2, route=route))
    fill(adapter)
    inputs = inputs_for("kinds")
    plain = with_deltas(base, adapter.deltas())
    torch.testing.assert_close(output(model, inputs), output(plain, inputs))
    output(model, inputs).square().sum().backward()
    output(plain, inputs).square().sum().backward()
    pulled = (adapter.deltas()["classes"] * plain.classes.weight.grad).sum()
    for parameter in adapter.parameters():
        torch.testing.assert_close(
            parameter.grad, torch.autograd.grad(pulled, parameter, retain_graph=True)[0]
        )


class OneLayer(nn.Module):
    """A network of one layer that is called ``it``."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.it = layer

    def forward(self, x):
        return self.it(x)


def same_gradients(base, model, adapter, x):
    """Answers and the adapter's gradients against those of a plain network, pulled back through deltas()."""
    deltas = adapter.deltas()
    plain = with_deltas(base, deltas)
    result, expected = model(x), plain(x)
    torch.testing.assert_close(result, expected)
    factors = torch.linspace(-1, 2, result.numel()).view(result.shape)
    (result * factors).sum().backward()
    (expected * factors).sum().backward()
    pulled = sum((delta * parameter_named(plain, name).grad).sum() for name, delta in deltas.items())
    parameters = list(adapter.parameters())
    for parameter, wanted in zip(parameters, torch.autograd.grad(pulled, parameters), strict=True):
        assert wanted.any()
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.GroupNorm(3, 6, eps=0.3),
        nn.LayerNorm(6, eps=0.3),
        nn.LayerNorm((2, 6), eps=0.3),
        nn.Conv2d(6, 4, 1),
        nn.Linear(6, 4),
    ],
    ids=["groups", "layer", "layer-of-two", "convolution", "linear"],
)
@pytest.mark.parametrize("parameter", ["weight", "bias", "*"])
def test_a_layer_computes_with_all_that_it_was_made_with(layer, parameter):
    base = OneLayer(copy.deepcopy(layer))
    model = copy.deepcopy(base)
    adapter = attach(model, SuperLoRAConfig(targets=f"it:{parameter}", groups="weight", order=1))
    fill(adapter)
    sizes = (2, 6, 2, 3) if type(layer) in (nn.GroupNorm, nn.Conv2d) else (2, 2, 6)
    same_gradients(base, model, adapter, torch.randn(sizes, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("route", ["weight", "products"])
@pytest.mark.parametrize(
    "options",
    [{"padding_idx": 4}, {"padding_idx": 0}, {"scale_grad_by_freq": True}],
    ids=["padding", "padding-0", "frequency"],
)
def test_an_embedding_changes_gradients_as_its_own_class_does(options, route):
    base = OneLayer(nn.Embedding(5, 6, **options))
    model = copy.deepcopy(base)
    adapter = attach(model, SuperLoRAConfig(targets="it", variant="lora", rank=2, route=route))
    fill(adapter)
    same_gradients(base, model, adapter, torch.tensor([[1, 4, 1], [2, 0, 4]]))


def test_a_base_without_the_parameter_is_refused(tmp_path):
    adapter = attach(small_unet(), SuperLoRAConfig(targets=["to_q", "conv_out:bias"]))
    adapter.save_pretrained(tmp_path)
    other = small_unet()
    other.conv_out.bias = None
    with pytest.raises(AdapterError, match="adapts 'conv_out:bias', which UNet2DModel does not have"):
        load_adapter(other, tmp_path)
    other.conv_out.bias = nn.Parameter(torch.zeros(5))
    with pytest.raises(
        AdapterError, match=r"'conv_out:bias' as a weight of shape \(3,\); here it has \(5,\)"
    ):
        load_adapter(other, tmp_path)
