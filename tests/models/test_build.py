"""Fresh bases from settings; class dropout."""

from __future__ import annotations

import pytest
import torch
from tiny import NAMES, UNET

from superlora_diffusion.errors import ConfigError
from superlora_diffusion.models.build import build_base
from superlora_diffusion.models.conditioning import drop_condition
from superlora_diffusion.models.config import BaseSettings, BuildSettings

PAPER = {
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [64, 128, 128, 128],
    "layers_per_block": 2,
    "down_block_types": ["AttnDownBlock2D"] * 4,
    "up_block_types": ["AttnUpBlock2D"] * 4,
}


def test_the_papers_network_has_its_attention_and_its_classes():
    base = build_base(BuildSettings(unet=PAPER), tuple("0123456789"))
    weights = {
        name: p
        for name, p in base.network.named_parameters()
        if name.endswith(("to_q.weight", "to_v.weight"))
    }
    assert len(weights) == 42 and sum(p.numel() for p in weights.values()) == 565_248
    assert base.network.class_embedding.weight.shape == (11, 256)
    assert (base.size, base.classes, base.null_class) == (32, 10, 10)
    assert base.scheduler.alphas_cumprod[-1] == 0 and base.scheduler.config.prediction_type == "v_prediction"


def test_the_seed_decides_the_weights():
    first, second, third = (_build(seed).network.conv_in.weight for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)


def _build(seed):
    torch.manual_seed(seed)
    return build_base(BuildSettings(unet=UNET), NAMES)


def test_names_of_the_settings_win_and_the_null_class_can_be_left_out():
    base = build_base(BuildSettings(unet=UNET, class_names=("x", "y"), null_class=False), NAMES)
    assert base.class_names == ("x", "y") and base.null_class is None
    assert base.network.config.num_class_embeds == 2
    free = build_base(BuildSettings(unet=UNET, class_names=()), NAMES)
    assert free.classes is None and free.network.config.num_class_embeds is None


def test_unknown_arguments_are_all_named_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        build_base(BuildSettings(unet={**UNET, "block_out_chanels": [8], "depth": 3}), NAMES)
    assert [path for path, _ in caught.value.faults] == [
        "base.build.unet.block_out_chanels",
        "base.build.unet.depth",
    ]
    assert "Did you mean 'block_out_channels'?" in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"down_block_types": ["NoBlock"] * 2}, {"block_out_channels": [8]}, {"norm_num_groups": 3}],
)
def test_arguments_that_do_not_fit_are_a_config_error(wrong):
    with pytest.raises(ConfigError, match="UNet2DModel does not accept this"):
        build_base(BuildSettings(unet={**UNET, **wrong}), NAMES)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"path": None}, "path: got path None without build"),
        ({"build": {"unet": {}}}, "path: got path 'synthdigits-16' and build"),
        ({"path": None, "build": {}}, "build: got neither of unet and vit"),
        (
            {"path": None, "build": {"unet": {}, "noise_schedule": {"prediction_type": "epsilon"}}},
            "build.noise_schedule.rescale_betas_zero_snr: got true",
        ),
        ({"null_clas": 3}, "null_clas: unknown name.*Did you mean 'null_class'"),
    ],
)
def test_settings_name_their_faults(values, said):
    with pytest.raises(ConfigError, match=said):
        BaseSettings(**values)


def test_classes_are_dropped_to_the_null_class_alone_at_the_given_rate():
    labels = torch.arange(20_000) % 4

    def drop_classes(labels, null_class, probability, generator):
        null = {"labels": torch.tensor([null_class])}
        return drop_condition({"labels": labels}, null, probability, generator)["labels"]

    dropped = drop_classes(labels, 4, 0.25, torch.Generator().manual_seed(0))
    changed = dropped != labels
    assert (dropped[changed] == 4).all()
    assert changed.float().mean() == pytest.approx(0.25, abs=0.01)
    for label in range(4):
        assert changed[labels == label].float().mean() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(drop_classes(labels, 4, 0.0, torch.Generator()), labels)
    assert torch.equal(dropped, drop_classes(labels, 4, 0.25, torch.Generator().manual_seed(0)))
