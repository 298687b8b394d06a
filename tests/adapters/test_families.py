"""What presets take of real networks of every family, their names written out by hand."""

from __future__ import annotations

import pytest
from torch import nn

from superlora_diffusion import SuperLoRAConfig, find_targets
from superlora_diffusion.adapters.grouping import make_grouping
from superlora_diffusion.adapters.presets import PRESETS
from superlora_diffusion.errors import AdapterError

from .families import FAMILIES, family


def taken(network, targets, exclude=()):
    return [target.name for target in find_targets(family(network), config(targets, exclude))]


def config(targets, exclude=(), **fields):
    return SuperLoRAConfig(targets=targets, exclude=exclude, **fields)


def under(*places, of):
    """Names: each of ``of`` inside each place."""
    return {f"{place}.{name}" for place in places for name in of.split()}


UNET = (
    "down_blocks.1.attentions.0",
    "up_blocks.0.attentions.0",
    "up_blocks.0.attentions.1",
    "mid_block.attentions.0",
)
BLOCKS = (
    "down_blocks.0.attentions.0.transformer_blocks.0",
    "up_blocks.0.attentions.0.transformer_blocks.0",
    "up_blocks.0.attentions.1.transformer_blocks.0",
    "mid_block.attentions.0.transformer_blocks.0",
)
CONDITIONAL = [f"{block}.attn{number}" for block in BLOCKS for number in (1, 2)]
DIT = ("transformer_blocks.0.attn1", "transformer_blocks.1.attn1")
SD3 = ("transformer_blocks.0.attn", "transformer_blocks.0.attn2", "transformer_blocks.1.attn")
CLIP = ("text_model.encoder.layers.0", "text_model.encoder.layers.1")
T5 = "encoder.block.0.layer"

QV = {
    "unet": under(*UNET, of="to_q to_v"),
    "conditional": under(*CONDITIONAL, of="to_q to_v"),
    "dit": under(*DIT, of="to_q to_v"),
    "sd3": under(*SD3, of="to_q to_v"),
    "flux": under("transformer_blocks.0.attn", "single_transformer_blocks.0.attn", of="to_q to_v"),
    "clip": under(*CLIP, of="self_attn.q_proj self_attn.v_proj"),
    "t5": under(f"{T5}.0.SelfAttention", of="q v"),
}
QV["t5-gated"] = QV["t5"]
KO = {
    "unet": under(*UNET, of="to_k to_out.0"),
    "conditional": under(*CONDITIONAL, of="to_k to_out.0"),
    "dit": under(*DIT, of="to_k to_out.0"),
    "sd3": under(*SD3, of="to_k to_out.0"),
    "flux": under("transformer_blocks.0.attn", of="to_k to_out.0")
    | {"single_transformer_blocks.0.attn.to_k"},
    "clip": under(*CLIP, of="self_attn.k_proj self_attn.out_proj"),
    "t5": under(f"{T5}.0.SelfAttention", of="k o"),
}
KO["t5-gated"] = KO["t5"]
ADDED = {
    "sd3": {
        "transformer_blocks.0.attn.add_q_proj",
        "transformer_blocks.0.attn.add_k_proj",
        "transformer_blocks.0.attn.add_v_proj",
        "transformer_blocks.0.attn.to_add_out",
        "transformer_blocks.1.attn.add_q_proj",
        "transformer_blocks.1.attn.add_k_proj",
        "transformer_blocks.1.attn.add_v_proj",
    },
    "flux": under("transformer_blocks.0.attn", of="add_q_proj add_k_proj add_v_proj to_add_out"),
}
FEED_FORWARD = "ff.net.0.proj ff.net.2"
MLP = {
    "conditional": under(*BLOCKS, of=FEED_FORWARD),
    "dit": under("transformer_blocks.0", "transformer_blocks.1", of=FEED_FORWARD),
    "sd3": under("transformer_blocks.0", "transformer_blocks.1", of=FEED_FORWARD)
    | under("transformer_blocks.0", of="ff_context.net.0.proj ff_context.net.2"),
    "flux": under("transformer_blocks.0", of=f"{FEED_FORWARD} ff_context.net.0.proj ff_context.net.2")
    | under("single_transformer_blocks.0", of="proj_mlp proj_out"),
    "clip": under(*CLIP, of="mlp.fc1 mlp.fc2"),
    "t5": under(f"{T5}.1.DenseReluDense", of="wi wo"),
    "t5-gated": under(f"{T5}.1.DenseReluDense", of="wi_0 wi_1 wo"),
}
EMBEDDING = "timestep_embedder.linear_1 timestep_embedder.linear_2"
OTHER_LINEAR = {
    "unet": under("time_embedding", "class_embedding", of="linear_1 linear_2")
    | under("down_blocks", of="0.resnets.0.time_emb_proj 1.resnets.0.time_emb_proj")
    | under("up_blocks.0", "up_blocks.1", of="resnets.0.time_emb_proj resnets.1.time_emb_proj")
    | under("mid_block", of="resnets.0.time_emb_proj resnets.1.time_emb_proj"),
    "conditional": under("time_embedding", of="linear_1 linear_2")
    | {
        name.removesuffix(".transformer_blocks.0") + ending
        for name in BLOCKS
        for ending in (".proj_in", ".proj_out")
    }
    | under("down_blocks.0", of="resnets.0.time_emb_proj")
    | under("up_blocks.0", "mid_block", of="resnets.0.time_emb_proj resnets.1.time_emb_proj"),
    "dit": under("transformer_blocks.0.norm1.emb", "transformer_blocks.1.norm1.emb", of=EMBEDDING)
    | {"transformer_blocks.0.norm1.linear", "transformer_blocks.1.norm1.linear", "proj_out_1", "proj_out_2"},
    "sd3": under("time_text_embed", of=f"{EMBEDDING} text_embedder.linear_1 text_embedder.linear_2")
    | under("transformer_blocks.0", "transformer_blocks.1", of="norm1.linear norm1_context.linear")
    | {"context_embedder", "norm_out.linear", "proj_out"},
    "flux": under("time_text_embed", of=f"{EMBEDDING} text_embedder.linear_1 text_embedder.linear_2")
    | under("transformer_blocks.0", of="norm1.linear norm1_context.linear")
    | {
        "context_embedder",
        "x_embedder",
        "single_transformer_blocks.0.norm.linear",
        "norm_out.linear",
        "proj_out",
    },
    "clip": {"text_projection"},
    "t5": set(),
    "t5-gated": set(),
}
every_family = pytest.mark.parametrize("network", FAMILIES)


def ending(name):
    """q, k, v or o: the letter of an attention's projection, of any family."""
    return (
        name.replace("to_", "").replace("_proj", "").replace("out", "o").removesuffix(".0").rpartition(".")[2]
    )


def expected(network):
    qkvo = QV[network] | KO[network]
    attention = qkvo | ADDED.get(network, set())
    with_mlp = attention | MLP.get(network, set())
    return {
        "qv": QV[network],
        "qk": {name for name in qkvo if ending(name) in ("q", "k")},
        "vo": {name for name in qkvo if ending(name) in ("v", "o")},
        "qkvo": qkvo,
        "attention": attention,
        "attention+mlp": with_mlp,
        "all-linear": with_mlp | OTHER_LINEAR[network],
    }


@every_family
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_takes_its_kinds_of_layers(preset, network):
    assert sorted(taken(network, [preset])) == sorted(expected(network)[preset])


@every_family
def test_targets_stand_in_module_order_whatever_the_order_of_patterns(network):
    places = {name: place for place, (name, _) in enumerate(family(network).named_modules())}
    for targets in (["attention+mlp", "qv"], ["all-linear"], ["**.?*", "qkvo"]):
        found = taken(network, targets)
        assert found == sorted(found, key=places.get) and len(found) == len(set(found))


@every_family
def test_no_convolution_is_in_a_preset(network):
    layers = dict(family(network).named_modules())
    for preset in PRESETS:
        assert all(type(layers[name]) is nn.Linear for name in taken(network, [preset]))


@every_family
def test_a_preset_taken_from_another(network):
    found = expected(network)
    assert set(taken(network, "qkvo", "qv")) == KO[network]
    if network in MLP:
        assert set(taken(network, "attention+mlp", "attention")) == MLP[network]
    if OTHER_LINEAR[network]:
        assert set(taken(network, "all-linear", "attention+mlp")) == OTHER_LINEAR[network]
    assert set(taken(network, "all-linear", ["qv", "qkvo"])) == found["all-linear"] - found["qkvo"]


MODULES = {
    "unet": {name: 4 for name in UNET},
    "conditional": {name: 4 for name in CONDITIONAL} | {f"{block}.ff": 2 for block in BLOCKS},
    "dit": {name: 4 for name in DIT} | {f"transformer_blocks.{number}.ff": 2 for number in (0, 1)},
    "sd3": {
        "transformer_blocks.0.attn": 8,
        "transformer_blocks.0.attn2": 4,
        "transformer_blocks.0.ff": 2,
        "transformer_blocks.0.ff_context": 2,
        "transformer_blocks.1.attn": 7,
        "transformer_blocks.1.ff": 2,
    },
    "flux": {
        "transformer_blocks.0.attn": 8,
        "transformer_blocks.0.ff": 2,
        "transformer_blocks.0.ff_context": 2,
        "single_transformer_blocks.0.attn": 3,
        "single_transformer_blocks.0": 2,
    },
    "clip": {f"{layer}.{part}": count for layer in CLIP for part, count in (("self_attn", 4), ("mlp", 2))},
    "t5": {f"{T5}.0.SelfAttention": 4, f"{T5}.1.DenseReluDense": 2},
    "t5-gated": {f"{T5}.0.SelfAttention": 4, f"{T5}.1.DenseReluDense": 3},
}


@every_family
@pytest.mark.parametrize("targets", [["attention+mlp"], ["**"], ["qv", "attention+mlp"]], ids=str)
def test_groups_layer_is_one_group_a_module(targets, network):
    wanted = expected(network)["attention+mlp"]
    others = [f"^{name}" for name in taken(network, "**") if name not in wanted] if targets == ["**"] else []
    found = find_targets(family(network), config(targets, others))
    assert module_sizes(found, config(targets, groups="layer")) == MODULES[network]


@pytest.mark.parametrize("network", ["unet", "conditional", "dit", "sd3"])
def test_groups_layer_by_plain_names_and_a_preset_together(network):
    targets = ["to_q", "to_out.0", "attention+mlp"]
    found = find_targets(family(network), config(targets))
    assert module_sizes(found, config(targets, groups="layer")) == MODULES[network]


def module_sizes(targets, settings):
    """{the module that all of a group are in: how many they are}; each module once."""
    grouping = make_grouping(settings, targets)
    groups = [[targets[index].name for index in members] for members in grouping.members]
    modules = MODULES_BY_LENGTH
    inside = [{next(m for m in modules if name.startswith(f"{m}.")) for name in group} for group in groups]
    assert all(len(found) == 1 for found in inside)
    sizes = {found.pop(): len(group) for found, group in zip(inside, groups, strict=True)}
    assert len(sizes) == len(groups)
    return sizes


MODULES_BY_LENGTH = sorted({name for each in MODULES.values() for name in each}, key=len, reverse=True)


def test_wildcards_on_real_names():
    first = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert set(taken("conditional", "attn2.to_[kv]")) == under(
        *(f"{block}.attn2" for block in BLOCKS), of="to_k to_v"
    )
    assert taken("conditional", "^down_blocks.**.attn?.to_q") == [
        f"{first}.attn1.to_q",
        f"{first}.attn2.to_q",
    ]
    assert taken("conditional", "^down_blocks.*.*.0.**.to_q", "attn2.*") == [f"{first}.attn1.to_q"]
    assert set(taken("sd3", "attn*.to_*")) == under(*SD3, of="to_q to_k to_v") | {
        "transformer_blocks.0.attn.to_add_out"
    }
    assert taken("sd3", "^*", "*_embedder") == ["proj_out"]
    assert set(taken("dit", "transformer_blocks.1.**", ["norm1.**", "attn1.**"])) == under(
        "transformer_blocks.1", of=FEED_FORWARD
    )


def test_a_preset_that_finds_nothing_says_what_it_means():
    with pytest.raises(
        AdapterError, match=r"'qkvo' matches no .* It means to_q, .*to_out\.0.* end in: a.0, a.2\."
    ):
        find_targets(
            nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))}), config("qkvo")
        )
    with pytest.raises(AdapterError, match="'all-linear' matches no Linear"):
        find_targets(nn.ModuleDict({"a": nn.Conv2d(2, 3, 1)}), config("all-linear"))
