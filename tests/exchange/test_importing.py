"""LoRA files of other tools become adapters of ours that add the same, or are refused in words."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from pipelines import denoiser, draw, load_pipeline
from safetensors.torch import load_file, save_file

from superlora_diffusion import load_adapter
from superlora_diffusion.adapters import AdapterCard
from superlora_diffusion.errors import AdapterError
from superlora_diffusion.exchange.exporting import export_adapter
from superlora_diffusion.exchange.factors import Precision
from superlora_diffusion.exchange.importing import attach_lora, shortest_patterns
from superlora_diffusion.exchange.reading import read_lora
from superlora_diffusion.exchange.resolving import original_name

from .adapting import LORTA, assert_same_and_not_base, attached_to, base_image
from .test_formats import settings_of

TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT_0 = TO_Q.replace("to_q", "to_out.0")


def deltas_of(network, path):
    """What an import adds, the adapter taken off again."""
    adapter = attach_lora(network, read_lora(path)).requires_grad_(False)
    found = adapter.deltas()
    adapter.unload()
    return found


def filled_peft(network, **settings):
    """(the network under PEFT with random LoRAs, {module: dW} by PEFT itself)."""
    torch.manual_seed(3)
    model = get_peft_model(network, LoraConfig(init_lora_weights=False, **settings))
    layers = {name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)}
    return model, {name: layer.get_delta_weight("default").detach() for name, layer in layers.items()}


@pytest.mark.parametrize("name", ["lorta", "everywhere", "mixed"])
@pytest.mark.parametrize(
    ("kind", "format"),
    [
        ("sd", "diffusers"),
        ("sd", "kohya"),
        ("sdxl", "kohya"),
        ("sd3", "diffusers"),
        ("sd3", "kohya"),
        ("dit", "peft"),
    ],
)
def test_an_export_comes_back_with_the_same_updates(kind, format, name, pipelines, tmp_path):
    _, attached = attached_to(pipelines[kind], **settings_of(name, kind))
    out = tmp_path / ("out.safetensors" if format == "kohya" else "out")
    written = export_adapter(attached, format, out, Precision(max_error=1e-6))
    network = denoiser(load_pipeline(pipelines[kind]))
    adapter = attach_lora(network, read_lora(out)).requires_grad_(False)
    assert [target.name for target in adapter.targets] == [target.name for target in attached.adapter.targets]
    assert adapter.config.rank == max(written.report.ranks.values()) and adapter.config.variant == "lora"
    for target, delta in attached.adapter.deltas().items():
        assert float(delta.norm()) > 0.01
        torch.testing.assert_close(adapter.deltas()[target], delta, rtol=1e-4, atol=1e-5)
    adapter.save_pretrained(tmp_path / "ours", AdapterCard(base="tiny"))
    fresh = load_adapter(denoiser(load_pipeline(pipelines[kind])), tmp_path / "ours")
    for target, delta in adapter.deltas().items():
        assert torch.equal(fresh.requires_grad_(False).deltas()[target], delta)


PEFT_SETTINGS = [
    {"r": 4, "lora_alpha": 10, "target_modules": ["to_q", "conv1"]},
    {"r": 4, "lora_alpha": 10, "use_rslora": True, "target_modules": ["to_q"]},
    {
        "r": 4,
        "lora_alpha": 2,
        "rank_pattern": {"up_blocks.*to_q": 2},
        "alpha_pattern": {"attentions.0.to_v": 7},
        "target_modules": ["to_q", "to_v"],
    },
]


@pytest.mark.parametrize("settings", PEFT_SETTINGS)
def test_a_folder_that_peft_wrote_adds_what_it_adds_there(settings, pipelines, tmp_path):
    model, expected = filled_peft(load_pipeline(pipelines["ddpm"]).unet, **settings)
    model.save_pretrained(tmp_path / "peft")
    found = deltas_of(load_pipeline(pipelines["ddpm"]).unet, tmp_path / "peft")
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        assert float(delta.norm()) > 0.1
        torch.testing.assert_close(found[name], delta, rtol=1e-5, atol=1e-6)


def test_a_file_that_diffusers_wrote_with_its_settings_adds_what_it_adds_there(pipelines, tmp_path):
    pipeline = load_pipeline(pipelines["sd"])
    torch.manual_seed(3)
    settings = LoraConfig(
        r=4, lora_alpha=12, init_lora_weights=False, target_modules=["to_q"], alpha_pattern={"attn2.to_q": 3}
    )
    pipeline.unet.add_adapter(settings)
    layers = {name: m for name, m in pipeline.unet.named_modules() if isinstance(m, LoraLayer)}
    expected = {name: layer.get_delta_weight("default").detach() for name, layer in layers.items()}
    pipeline.unet.save_lora_adapter(tmp_path / "out")
    tensors = load_file(tmp_path / "out/pytorch_lora_weights.safetensors")
    StableDiffusion = type(pipeline)
    StableDiffusion.save_lora_weights(
        tmp_path / "pipe",
        unet_lora_layers=tensors,
        unet_lora_adapter_metadata=settings.to_dict() | {"peft_type": None},
    )
    found = deltas_of(load_pipeline(pipelines["sd"]).unet, tmp_path / "pipe")
    assert found.keys() == expected.keys()
    assert {layer.scaling["default"] for layer in layers.values()} == {3.0, 0.75}
    for name, delta in expected.items():
        torch.testing.assert_close(found[name], delta, rtol=1e-5, atol=1e-6)


def random_pair(weight, rank=2, pointwise=False):
    down = torch.randn(rank, *weight.shape[1:])
    up = torch.randn(weight.shape[0], rank)
    if weight.dim() == 4 or pointwise:
        up, down = up[:, :, None, None], down if down.dim() == 4 else down[:, :, None, None]
    return up * 0.4, down * 0.4


def kohya_tensors(network, names, alpha=None):
    """{module: kohya's name} as a file's tensors."""
    torch.manual_seed(4)
    tensors = {}
    for module, name in names.items():
        up, down = random_pair(network.get_submodule(module).weight)
        tensors |= {f"lora_unet_{name}.lora_up.weight": up, f"lora_unet_{name}.lora_down.weight": down}
        if alpha is not None:
            tensors[f"lora_unet_{name}.alpha"] = torch.tensor(alpha)
    return tensors


# Stable Diffusion XL's own names, by hand for two blocks of two layers.
ORIGINAL = {
    "conv_in": "input_blocks_0_0",
    "down_blocks.0.resnets.1.conv1": "input_blocks_2_0_in_layers_2",
    "down_blocks.0.resnets.0.time_emb_proj": "input_blocks_1_0_emb_layers_1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks_4_0_skip_connection",
    "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q": "input_blocks_5_1_transformer_blocks_0_attn1_to_q",
    "mid_block.resnets.1.conv2": "middle_block_2_out_layers_3",
    "mid_block.attentions.0.proj_in": "middle_block_1_proj_in",
    "up_blocks.0.attentions.2.transformer_blocks.1.ff.net.0.proj": (
        "output_blocks_2_1_transformer_blocks_1_ff_net_0_proj"
    ),
    "up_blocks.0.upsamplers.0.conv": "output_blocks_2_2_conv",
    "up_blocks.1.resnets.0.conv1": "output_blocks_3_0_in_layers_2",
    "conv_out": "out_2",
}


def test_original_names_of_stable_diffusion_xl_are_read_as_diffusers_reads_them(pipelines, tmp_path):
    pipeline = load_pipeline(pipelines["sdxl"])
    tensors = kohya_tensors(pipeline.unet, ORIGINAL, alpha=3.0)
    save_file(tensors, tmp_path / "xl.safetensors")
    adapter = attach_lora(pipeline.unet, read_lora(tmp_path / "xl.safetensors"))
    assert {target.name for target in adapter.targets} == set(ORIGINAL)
    theirs = load_pipeline(pipelines["sdxl"])
    theirs.load_lora_weights(tmp_path / "xl.safetensors")
    assert_same_and_not_base(draw(pipeline), draw(theirs), base_image(pipelines["sdxl"]))


def test_every_module_of_stable_diffusion_xl_has_one_original_name():
    with torch.device("meta"):
        network = UNet2DConditionModel(
            block_out_channels=(32, 64, 96),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        )
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    ]
    names = [original_name(name, 2) for name in layers]
    assert None not in names and len(set(names)) == len(names) > 100
    inputs = {int(name.split(".")[1]) for name in names if name.startswith("input_blocks")}
    outputs = {int(name.split(".")[1]) for name in names if name.startswith("output_blocks")}
    assert inputs == set(range(9)) and outputs == set(range(9))


def test_alpha_over_rank_is_folded_in(pipelines, tmp_path):
    unet = load_pipeline(pipelines["sd"]).unet
    names = {TO_Q: TO_Q.replace(".", "_")}
    for alpha, scale in [(None, 1.0), (1.0, 0.5), (6.0, 3.0)]:
        tensors = kohya_tensors(unet, names, alpha)
        save_file(tensors, tmp_path / "a.safetensors")
        up, down = (tensors[f"lora_unet_{names[TO_Q]}.lora_{which}.weight"] for which in ("up", "down"))
        torch.testing.assert_close(deltas_of(unet, tmp_path / "a.safetensors")[TO_Q], scale * up @ down)


OLD_NAMES = {
    "unet.{}.lora_A.weight": ("unet.{}.lora_B.weight", TO_Q),
    "unet.{}.lora.down.weight": ("unet.{}.lora.up.weight", TO_Q),
    "{}.lora_A.weight": ("{}.lora_B.weight", TO_Q),
    "{}_lora.down.weight": ("{}_lora.up.weight", TO_Q.replace("attn1", "attn1.processor")),
    "unet.{}_lora.down.weight": ("unet.{}_lora.up.weight", OUT_0.replace("attn1", "attn1.processor")[:-2]),
}


@pytest.mark.parametrize("down_key", OLD_NAMES)
def test_names_that_diffusers_used_in_its_time_are_known(down_key, pipelines, tmp_path):
    unet = load_pipeline(pipelines["sd"]).unet
    up_key, stored = OLD_NAMES[down_key]
    up, down = random_pair(unet.get_submodule(TO_Q).weight)
    save_file({up_key.format(stored): up, down_key.format(stored): down}, tmp_path / "old.safetensors")
    found = deltas_of(unet, tmp_path / "old.safetensors")
    assert list(found) == [OUT_0 if "to_out" in stored else TO_Q]
    torch.testing.assert_close(next(iter(found.values())), up @ down)


def test_a_convolution_of_one_pixel_is_a_linear_layer(pipelines, tmp_path):
    unet = load_pipeline(pipelines["sdxl"]).unet  # its proj_in is Linear; others store it as a convolution
    module = "mid_block.attentions.0.proj_in"
    up, down = random_pair(unet.get_submodule(module).weight, pointwise=True)
    name = f"lora_unet_{module.replace('.', '_')}"
    save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, tmp_path / "a.safetensors")
    torch.testing.assert_close(
        deltas_of(unet, tmp_path / "a.safetensors")[module], up.flatten(1) @ down.flatten(1)
    )


def test_half_precision_files_are_read_in_full(pipelines, tmp_path):
    unet = load_pipeline(pipelines["sd"]).unet
    tensors = {k: v.half() for k, v in kohya_tensors(unet, {TO_Q: TO_Q.replace(".", "_")}, 1.0).items()}
    save_file(tensors, tmp_path / "a.safetensors")
    name = f"lora_unet_{TO_Q.replace('.', '_')}"
    expected = 0.5 * tensors[f"{name}.lora_up.weight"].float() @ tensors[f"{name}.lora_down.weight"].float()
    torch.testing.assert_close(deltas_of(unet, tmp_path / "a.safetensors")[TO_Q], expected)


KEY = f"unet.{TO_Q}"
PAIR = {f"{KEY}.lora_A.weight": (2, 16), f"{KEY}.lora_B.weight": (16, 2)}
REFUSED = {
    "DoRA": {**PAIR, f"{KEY}.lora_magnitude_vector": (16,)},
    "DoRA (": {"lora_unet_x.lora_down.weight": (2, 16), "lora_unet_x.dora_scale": (16, 1)},
    "LoKr": {"lora_unet_x.lokr_w1": (4, 4), "lora_unet_x.lokr_w2": (4, 4)},
    "LoHa": {"lora_unet_x.hada_w1_a": (4, 4)},
    "Tucker": {**PAIR, "lora_unet_x.lora_mid.weight": (4, 4, 3, 3)},
    "biases": {**PAIR, f"{KEY}.lora_B.bias": (16,)},
    "lacks the up of 1 modules": {f"{KEY}.lora_A.weight": (2, 16)},
    "lacks the down of 1 modules": {f"{KEY}.lora_B.weight": (16, 2)},
    "no part of a LoRA: unet.strange": {**PAIR, "unet.strange.thing": (3,)},
    "2 others": {**PAIR, "lora_unet_x.lora_down.weight": (2, 16)},
    "up (16, 2) and down (2, 12); its weight here is (16, 16)": {**PAIR, f"{KEY}.lora_A.weight": (2, 12)},
    "up (8, 2)": {**PAIR, f"{KEY}.lora_B.weight": (8, 2)},
    "up (16, 3)": {**PAIR, f"{KEY}.lora_B.weight": (16, 3)},
    "1 modules that the UNet2DConditionModel of this base does not have: unet.down_blocks.7.to_q.": {
        **PAIR,
        "unet.down_blocks.7.to_q.lora_A.weight": (2, 16),
        "unet.down_blocks.7.to_q.lora_B.weight": (16, 2),
    },
    "also adapts text_encoder; here only unet": {
        **PAIR,
        "text_encoder.q_proj.lora_A.weight": (2, 16),
        "text_encoder.q_proj.lora_B.weight": (16, 2),
    },
    "holds no tensors": {},
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_does_not_fit_is_refused_by_name(word, pipelines, tmp_path):
    file = tmp_path / "strange.safetensors"
    save_file({key: torch.ones(shape) for key, shape in REFUSED[word].items()}, file)
    network = load_pipeline(pipelines["sd"]).unet
    with pytest.raises(AdapterError) as caught:
        attach_lora(network, read_lora(file))
    assert word in str(caught.value) and str(file) in str(caught.value)
    assert not hasattr(network, "superlora_host"), "nothing stays attached"


def test_of_many_unknown_modules_five_are_listed(pipelines, tmp_path):
    names = [f"unet.no.{index}" for index in range(9)]
    tensors = {f"{name}.lora_A.weight": torch.ones(2, 16) for name in names}
    tensors |= {f"{name}.lora_B.weight": torch.ones(16, 2) for name in names}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(AdapterError) as caught:
        attach_lora(load_pipeline(pipelines["sd"]).unet, read_lora(tmp_path / "a.safetensors"))
    listed = [name for name in names if f"{name}," in str(caught.value)]
    assert len(listed) == 5 and "9 modules" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"peft_type": "VERA"}, "VERA"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["conv_out"]}, "trained whole"),
        ({"fan_in_fan_out": True}, "transposed"),
        ({"peft_type": None}, "no PEFT adapter"),
    ],
)
def test_settings_of_peft_that_are_no_plain_lora_are_refused(settings, word, pipelines, tmp_path):
    folder = tmp_path / "peft"
    model, _ = filled_peft(load_pipeline(pipelines["ddpm"]).unet, r=2, target_modules=["to_q"])
    model.save_pretrained(folder)
    described = json.loads((folder / "adapter_config.json").read_text()) | settings
    (folder / "adapter_config.json").write_text(json.dumps(described))
    with pytest.raises(AdapterError, match=word):
        read_lora(folder)


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "old.bin").write_bytes(b"pickle")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft/adapter_config.json").write_text("{")
    for name, word in [
        ("old.bin", "no .safetensors file"),
        ("broken.safetensors", "cannot be read"),
        ("empty", "no .safetensors file"),
        ("missing", "neither a file nor a folder"),
        ("peft", "broken"),
    ]:
        with pytest.raises(AdapterError, match=word):
            read_lora(tmp_path / name)


def test_targets_are_named_by_endings_where_these_say_it():
    layers = ["a.to_q", "b.to_q", "b.to_out.0", "b.net.0", "c"]
    assert shortest_patterns(["a.to_q", "b.to_q", "b.to_out.0"], layers) == ("to_q", "to_out.0")
    assert shortest_patterns(["a.to_q"], layers) == ("a.to_q",)


def test_peft_itself_takes_back_what_was_imported(pipelines, tmp_path):
    model, expected = filled_peft(load_pipeline(pipelines["ddpm"]).unet, **PEFT_SETTINGS[0])
    model.save_pretrained(tmp_path / "theirs")
    network = load_pipeline(pipelines["ddpm"]).unet
    adapter = attach_lora(network, read_lora(tmp_path / "theirs"))
    _, attached = attached_to(pipelines["ddpm"], **LORTA)
    export_adapter(type(attached)(network, adapter, pipelines["ddpm"]), "peft", tmp_path / "back")
    again = load_pipeline(pipelines["ddpm"]).unet
    PeftModel.from_pretrained(again, tmp_path / "back")
    layers = {name: m for name, m in again.named_modules() if isinstance(m, LoraLayer)}
    assert layers.keys() == expected.keys()
    for name, delta in expected.items():
        found = layers[name].get_delta_weight("default").detach()
        torch.testing.assert_close(found, delta, rtol=1e-4, atol=1e-5)
