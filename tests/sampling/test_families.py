"""The one producer draws, for every family, what diffusers' own pipeline draws from the same noise."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.dit import pipeline_dit
from families import LATENT, TEXT
from pipelines import load_pipeline, write_pipeline

from superlora_diffusion.errors import SamplingError
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.models.storage import load_base
from superlora_diffusion.sampling.config import SamplingSettings
from superlora_diffusion.sampling.producer import generate, image_generator
from superlora_diffusion.sampling.schedulers import make_scheduler

PROMPTS = ["a red dot", "dog"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("families")
    return {kind: write_pipeline(kind, place / kind) for kind in LATENT}


def noise(height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.stack([torch.randn((4, height, width), generator=image_generator(0, i)) for i in range(2)])


def theirs(folder, kind: str, **options):
    pipeline = load_pipeline(folder)
    if kind != "sd3":
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    images = pipeline(PROMPTS, num_inference_steps=4, output_type="np", **options).images
    return (images * 255).round().astype(int)


def ours(folder, kind: str, asked, **settings) -> np.ndarray:
    base = load_base(BaseSettings(path=str(folder)))
    sampler = "euler" if kind == "sd3" else "ddim"
    return generate(base, asked, 2, SamplingSettings(sampler=sampler, steps=4, **settings)).astype(int)


@pytest.mark.parametrize("negative", ["", "blur"])
@pytest.mark.parametrize("kind", TEXT)
def test_text_is_drawn_as_by_diffusers(folders, kind, negative):
    given = {"negative_prompt": [negative] * 2} if negative else {}
    wanted = theirs(folders[kind], kind, latents=noise(), guidance_scale=4.0, height=16, width=16, **given)
    drawn = ours(folders[kind], kind, PROMPTS, guidance_scale=4.0, negative_prompt=negative)
    assert np.abs(drawn - wanted).max() <= 1 and wanted.std() > 10
    unguided = ours(folders[kind], kind, PROMPTS, guidance_scale=1.0)
    assert np.abs(unguided - wanted).max() > 3


SHIFTS = {"shift_factor": 2.0}, {"latents_mean": [1, 0, -1, 2.0], "latents_std": [1, 2, 3, 0.5]}


@pytest.mark.parametrize("given", SHIFTS, ids=["shift", "by-channel"])
@pytest.mark.parametrize("kind", LATENT)
def test_latents_are_scaled_as_by_each_familys_pipeline(folders, kind, given, tmp_path, monkeypatch):
    """One reads a shift, one means and deviations by channel, the others neither; encoding goes the other way."""
    shutil.copytree(folders[kind], tmp_path / "base")
    path = tmp_path / "base" / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "scaling_factor": 2.0, **given}))
    options = {"latents": noise(), "height": 16, "width": 16}
    if kind == "dit":
        monkeypatch.setattr(pipeline_dit, "randn_tensor", lambda *args, **unused: noise())
        pipeline = load_pipeline(tmp_path / "base")
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
        images = pipeline([1, 3], guidance_scale=1.0, num_inference_steps=4, output_type="np").images
        wanted, asked = (images * 255).round().astype(int), [1, 3]
    else:
        wanted, asked = theirs(tmp_path / "base", kind, guidance_scale=1.0, **options), PROMPTS
    drawn = ours(tmp_path / "base", kind, asked, guidance_scale=1.0)
    assert np.abs(drawn - wanted).max() <= 1 and wanted.std() > 10
    base = load_base(BaseSettings(path=str(tmp_path / "base")))
    pixels = torch.rand(1, 3, 16, 16, generator=image_generator(0, 0)) * 2 - 1
    mean, std = base.family.to_latents(base, pixels)
    shift, factor = base.family.scaling(base.parts.load("vae"))
    raw = base.parts.load("vae").encode(pixels).latent_dist
    torch.testing.assert_close(mean / factor + shift, raw.mean)
    torch.testing.assert_close(std / factor, raw.std)


@pytest.mark.parametrize("kind", TEXT)
def test_pictures_need_not_be_square(folders, kind):
    wanted = theirs(folders[kind], kind, latents=noise(8, 4), guidance_scale=2.0, height=16, width=8)
    drawn = ours(folders[kind], kind, PROMPTS, guidance_scale=2.0, height=16, width=8)
    assert drawn.shape == (2, 16, 8, 3) and np.abs(drawn - wanted).max() <= 1
    with pytest.raises(SamplingError, match=r"sampling.width is 9.*multiples of \d"):
        ours(folders[kind], kind, PROMPTS, width=9)


def test_classes_are_drawn_by_dit_as_by_diffusers(folders, monkeypatch):
    pipeline = load_pipeline(folders["dit"])
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    monkeypatch.setattr(pipeline_dit, "randn_tensor", lambda *args, **options: noise())
    images = pipeline([1, 3], guidance_scale=1.0, num_inference_steps=4, output_type="np").images
    wanted = (images * 255).round().astype(int)
    drawn = ours(folders["dit"], "dit", [1, 3], guidance_scale=1.0)
    assert np.abs(drawn - wanted).max() <= 1 and wanted.std() > 10
    guided = ours(folders["dit"], "dit", [1, 3], guidance_scale=3.0)
    assert np.abs(guided - wanted).max() > 3


@pytest.mark.parametrize("sampler", ["dpm++2m", "unipc", "euler"])
def test_flow_matching_has_several_samplers_that_meet_at_many_steps(folders, sampler):
    base = load_base(BaseSettings(path=str(folders["sd3"])))
    drawn, reference = (
        generate(base, PROMPTS, 2, SamplingSettings(sampler=name, steps=60, guidance_scale=1)).astype(int)
        for name in (sampler, "euler")
    )
    assert np.abs(drawn - reference).mean() < 2 and reference.std() > 10
    shifted = FlowMatchEulerDiscreteScheduler(shift=3.0)
    sigmas = make_scheduler(sampler, shifted, 4).sigmas
    plain = make_scheduler(sampler, FlowMatchEulerDiscreteScheduler(), 4).sigmas
    torch.testing.assert_close(sigmas, 3 * plain / (1 + 2 * plain), rtol=0.02, atol=0.01)


def test_what_flow_matching_lacks_is_said(folders):
    base = load_base(BaseSettings(path=str(folders["sd3"])))
    with pytest.raises(SamplingError, match=r"'ddpm' knows no flow matching; euler, dpm\+\+2m, unipc do"):
        generate(base, PROMPTS, 2, SamplingSettings(sampler="ddpm", steps=2))


@pytest.mark.parametrize("kind", TEXT)
def test_a_base_that_takes_text_needs_a_prompt_an_image(folders, kind):
    base = load_base(BaseSettings(path=str(folders[kind])))
    with pytest.raises(SamplingError, match="2 images need one prompt each, but none were given"):
        generate(base, None, 2, SamplingSettings(steps=1))
    with pytest.raises(SamplingError, match="but 1 were given"):
        generate(base, ["a"], 2, SamplingSettings(steps=1))
