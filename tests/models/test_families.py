"""What each family says of its base, and what is not to be done with it."""

from __future__ import annotations

import json

import pytest
import torch
from families import KINDS, LATENT, load, write_family

from superlora_diffusion.errors import BaseModelError
from superlora_diffusion.models.families import all_families, family_of_network
from superlora_diffusion.models.storage import save_base


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("families")
    return {kind: write_family(kind, place / kind) for kind in KINDS}


def test_each_is_known_by_its_network_alone(folders):
    names = {"ddpm": "pixels", "dit": "dit", "sd": "stable-diffusion", "sdxl": "stable-diffusion-xl"}
    names["sd3"] = "stable-diffusion-3"
    for kind, folder in folders.items():
        (path,) = [*folder.glob("unet/config.json"), *folder.glob("transformer/config.json")]
        assert family_of_network(json.loads(path.read_text()), "here").name == names[kind]
    assert len({family.name for family in all_families()}) == 5
    with pytest.raises(
        BaseModelError, match="here holds a FluxTransformer2DModel, which no family here drives"
    ):
        family_of_network({"_class_name": "FluxTransformer2DModel"}, "here")


@pytest.mark.parametrize("kind", LATENT)
def test_latents_come_back_as_pictures_of_their_size(folders, kind):
    base = load(folders[kind])
    assert (base.size, base.channels, base.family.factor(base)) == (16, 3, 2)
    assert base.family.shape(base, 16, 24) == (4, 8, 12)
    vae = base.parts.load("vae")
    pixels = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
        mean, std = base.family.to_latents(base, pixels)
        shift = vae.config.shift_factor if kind == "sd3" else 0.0  # the other pipelines read none
        torch.testing.assert_close(mean, (posterior.mean - shift) * vae.config.scaling_factor)
        torch.testing.assert_close(std, posterior.std * vae.config.scaling_factor)
        torch.testing.assert_close(base.family.decode(base, mean), vae.decode(posterior.mean).sample)
    assert mean.std() > 0.1 and vae.config.shift_factor != 0


def test_dit_knows_its_classes_and_leaves_dropping_them_to_the_run(folders):
    base = load(folders["dit"])
    assert base.class_names == ("ash", "birch", "2", "3", "4") or len(base.class_names) == 5
    assert base.null_class == 5 and base.family.embedded_classes(base) == 6
    noisy, times = torch.randn(64, 4, 8, 8), torch.full((64,), 500)
    condition = base.condition([index % 5 for index in range(64)], torch.device("cpu"))
    base.network.train()
    with torch.no_grad():
        torch.manual_seed(0)
        one = base.predict(noisy, times, condition)
        torch.manual_seed(1)
        other = base.predict(noisy, times, condition)
    assert torch.equal(one, other) and one.shape == noisy.shape
    null = base.null_condition(torch.device("cpu"))
    assert null["class_labels"].tolist() == [5]


def test_a_clip_of_pixels_is_not_taken_over_to_latents(folders):
    for kind in ("dit", "sd", "sdxl"):
        assert load(folders[kind]).scheduler.config.clip_sample is False
    assert load(folders["ddpm"]).scheduler.config.clip_sample is True


def test_xl_asks_for_nothing_by_zeros_as_its_pipeline_says(folders, tmp_path):
    base, device = load(folders["sdxl"]), torch.device("cpu")
    assert all((rows == 0).all() for rows in base.null_condition(device).values())
    assert all((rows != 0).any() for rows in base.null_condition(device, "blur").values())
    base.parts.index["force_zeros_for_empty_prompt"] = False
    assert all((rows != 0).any() for rows in base.null_condition(device).values())


@pytest.mark.parametrize("kind", LATENT)
def test_a_whole_base_is_saved_with_its_other_parts(folders, kind, tmp_path):
    base = load(folders[kind])
    with torch.no_grad():
        next(base.network.parameters()).add_(1)
    save_base(base, tmp_path / "saved", {"training": {"steps": 3}})
    back = load(tmp_path / "saved")
    wanted = base.network.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in back.network.state_dict().items())
    names = {path.name for path in folders[kind].iterdir()}
    assert names <= {path.name for path in (tmp_path / "saved").iterdir()}
    assert back.class_names == base.class_names and back.null_class == base.null_class


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("sd", {"in_channels": 9}, "predicts 4 channels from 9"),
        ("dit", {"out_channels": 5}, "predicts 5 channels from 4; equally many, or twice as many"),
    ],
)
def test_networks_that_cannot_be_driven_are_refused(folders, kind, change, said):
    base = load(folders[kind])
    base.network.register_to_config(**change)
    with pytest.raises(BaseModelError, match=said):
        base.family.check(base)


def test_a_schedule_that_shifts_by_size_is_refused(folders, tmp_path):
    import shutil

    shutil.copytree(folders["sd3"], tmp_path / "sd3")
    path = tmp_path / "sd3" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_dynamic_shifting": True}))
    with pytest.raises(BaseModelError, match="use_dynamic_shifting"):
        load(tmp_path / "sd3")


@pytest.mark.parametrize(
    ("kind", "part", "said"),
    [("sd", "vae", "vae"), ("sd", "text_encoder", "text_encoder"), ("sdxl", "tokenizer_2", "tokenizer_2")],
)
def test_missing_parts_are_named(folders, kind, part, said, tmp_path):
    import shutil

    shutil.copytree(folders[kind], tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / part)
    base = load(tmp_path / "base")
    with pytest.raises(BaseModelError, match=said):
        base.condition(["a"], torch.device("cpu"))
        base.parts.load("vae")
