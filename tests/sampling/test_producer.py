"""The producer against networks whose right answer is known, and against itself in other batches."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from tiny import make_base

from sampling.oracle import normal_base
from superlora_diffusion.errors import BaseModelError, ConfigError, SamplingError
from superlora_diffusion.models.conditioning import guide
from superlora_diffusion.sampling.config import SamplerName, SamplingSettings
from superlora_diffusion.sampling.producer import generate, image_generator, to_uint8

SAMPLERS = get_args(SamplerName)
DETERMINISTIC = [name for name in SAMPLERS if name != "ddpm"]


def pixels(value: float | torch.Tensor) -> np.ndarray:
    """Where a value in [-1, 1] lies among 0 to 255, not rounded."""
    return np.asarray((torch.as_tensor(value).clamp(-1, 1) + 1) * 127.5)


@pytest.mark.parametrize("steps", [1, 7, 10, 50])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_data_that_are_one_point_come_out_as_that_point(sampler, steps):
    settings = SamplingSettings(sampler=sampler, steps=steps, guidance_scale=1)
    images = generate(normal_base(), np.array([0, 1, 1]), 3, settings)
    # diffusers' ddim ends a little before t = 0 where 1000 does not divide by the steps.
    allowed = 4 if (sampler, steps) == ("ddim", 7) else 1
    wanted = pixels(torch.tensor([-0.5, 0.25, 0.25])).reshape(3, 1, 1, 1)
    assert images.shape == (3, 4, 4, 3)
    assert np.abs(images - wanted).max() <= allowed


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_normal_data_follow_the_probability_flow(sampler):
    # Along the flow an image keeps its place in the distribution: it ends at mean + spread * its first noise.
    settings = SamplingSettings(sampler=sampler, steps=100, guidance_scale=1)
    images = generate(normal_base(spread=0.25), np.array([0, 1]), 2, settings, seed=5)
    noise = torch.stack([torch.randn((3, 4, 4), generator=image_generator(5, i)) for i in range(2)])
    wanted = pixels(torch.tensor([-0.5, 0.25]).reshape(2, 1, 1, 1) + 0.25 * noise).transpose(0, 2, 3, 1)
    assert wanted.std() > 20
    assert np.abs(images - wanted).max() < 6


def test_ddpm_draws_normal_data_with_their_mean_and_spread():
    settings = SamplingSettings(sampler="ddpm", steps=250, guidance_scale=1)
    base = normal_base(means=(-0.1, 0.2, 0.0), spread=0.25)
    images = generate(base, np.zeros(40, dtype=int), 40, settings)
    assert images.mean() == pytest.approx(pixels(-0.1), abs=3)
    assert images.std() == pytest.approx(0.25 * 127.5, rel=0.1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guidance_moves_from_the_null_class_through_the_class(sampler):
    # v is linear in the point, so guiding two points is the network of the point u + s (c - u).
    settings = SamplingSettings(sampler=sampler, steps=10, guidance_scale=1.6)
    images = generate(normal_base(means=(-0.4, 0.3, 0.1)), np.array([0, 1]), 2, settings)
    wanted = [0.1 + 1.6 * (-0.4 - 0.1), 0.1 + 1.6 * (0.3 - 0.1)]
    for image, value in zip(images, wanted, strict=True):
        assert np.abs(image - pixels(value)).max() <= 1


def test_guide_is_its_equation():
    torch.manual_seed(0)
    u, c = torch.randn(2, 3, 2, 4, 4).unbind()
    torch.testing.assert_close(guide(u, c, 2.5), u + 2.5 * (c - u))
    assert torch.equal(guide(u, c, 1.0), c) and torch.equal(guide(u, c, 0.0), u)


@pytest.mark.parametrize(("scale", "halves"), [(1, 1), (3, 2), (0, 2)])
def test_scale_one_costs_half(scale, halves):
    base = normal_base()
    settings = SamplingSettings(steps=4, guidance_scale=scale, batch_size=2)
    generate(base, np.array([0, 1, 1]), 3, settings)
    full, rest = [0, 1], [1]
    if halves == 2:
        full, rest = [2, 2, *full], [2, *rest]
    assert base.network.calls == [full] * 4 + [rest] * 4


def test_an_unconditional_base_is_asked_without_classes():
    base = normal_base(means=(0.3,), classes=0)
    images = generate(base, None, 2, SamplingSettings(steps=5, guidance_scale=4))
    assert base.network.calls == [[]] * 5
    assert np.abs(images - pixels(0.3)).max() <= 1


@pytest.fixture(scope="module")
def tiny():
    return make_base()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_depends_on_seed_and_index_alone(tiny, sampler):
    classes = np.array([0, 1, 2, 3, 0, 1, 2])

    def draw(first=0, count=7, batch=100, seed=3):
        settings = SamplingSettings(sampler=sampler, steps=4, guidance_scale=1.5, batch_size=batch)
        part = classes[first : first + count]
        return generate(tiny, part, count, settings, seed=seed, first=first).astype(int)

    whole = draw()
    assert whole.std() > 10
    for other, part in (
        (draw(batch=3), slice(0, 7)),
        (draw(batch=1), slice(0, 7)),
        (draw(count=2), slice(0, 2)),
        (draw(first=4, count=3, batch=2), slice(4, 7)),
    ):
        assert np.abs(other - whole[part]).max() <= 1
    assert np.abs(draw(seed=4) - whole).mean() > 5
    assert all(np.abs(whole[i] - whole[0]).mean() > 5 for i in range(1, 7))  # 4 has the class of 0


def test_the_class_matters(tiny):
    settings = SamplingSettings(steps=4, guidance_scale=5)
    zero, one = (generate(tiny, np.array([c]), 1, settings).astype(int) for c in (0, 1))
    assert np.abs(zero - one).max() > 1


def test_generators_of_neighbours_and_seeds_differ_and_ignore_the_global_state():
    torch.manual_seed(0)
    first = torch.randn(5, generator=image_generator(1, 2))
    torch.manual_seed(1)
    assert torch.equal(first, torch.randn(5, generator=image_generator(1, 2)))
    others = [image_generator(1, 3), image_generator(2, 1), image_generator(12, 0), image_generator(1, 20)]
    assert all(not torch.equal(first, torch.randn(5, generator=other)) for other in others)


def test_bytes_are_rounded_and_clamped():
    values = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 100.4 / 127.5 - 1, 100.6 / 127.5 - 1])
    row = to_uint8(values.reshape(1, 1, 2, 4).expand(1, 3, 2, 4))
    assert row.shape == (1, 2, 4, 3) and row.dtype == np.uint8
    assert row[0, :, :, 1].ravel().tolist() == [0, 0, 128, 191, 255, 255, 100, 101]


def test_progress_counts_images_and_the_mode_is_restored(tiny):
    tiny.network.train()
    done = []
    generate(tiny, np.zeros(5, dtype=int), 5, SamplingSettings(steps=1, batch_size=2), on_batch=done.append)
    assert done == [2, 2, 1] and tiny.network.training
    tiny.network.eval()
    generate(tiny, np.zeros(1, dtype=int), 1, SamplingSettings(steps=1))
    assert not tiny.network.training


@pytest.mark.parametrize(
    ("classes", "count", "said"),
    [
        (None, 2, "need one class each, but none"),
        ([0], 2, "but 1 were given"),
        ([0, 4], 2, r"classes \[4\] are unknown.*0 to 3"),
        ([-1, 0], 2, r"classes \[-1\]"),
        ([], 0, "0 images were asked for"),
    ],
)
def test_classes_are_checked(tiny, classes, count, said):
    classes = None if classes is None else np.array(classes)
    with pytest.raises(SamplingError, match=said):
        generate(tiny, classes, count, SamplingSettings(steps=1))


def test_the_null_class_cannot_be_asked_for_by_number(tiny):
    with pytest.raises(SamplingError, match="unknown"):
        generate(tiny, np.array([tiny.null_class]), 1, SamplingSettings(steps=1))


def test_guidance_needs_a_null_class():
    base = make_base(null_class=False)
    with pytest.raises(BaseModelError, match=r"no null class.*guidance scale 2"):
        generate(base, np.array([0]), 1, SamplingSettings(steps=1, guidance_scale=2))
    images = generate(base, np.array([0]), 1, SamplingSettings(steps=1, guidance_scale=1))
    assert images.shape == (1, 8, 8, 3)


def test_classes_of_an_unconditional_base_are_refused():
    with pytest.raises(SamplingError, match="unconditional"):
        generate(make_base(classes=0), np.array([0]), 1, SamplingSettings(steps=1))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    "schedule",
    [{"prediction_type": "epsilon"}, {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"}],
)
def test_other_bases_sample_too(sampler, schedule):
    base = make_base(classes=0, schedule={**schedule, "clip_sample": False})
    images = generate(base, None, 2, SamplingSettings(sampler=sampler, steps=3))
    assert images.shape == (2, 8, 8, 3) and images.std() > 5


def test_a_schedule_that_a_sampler_lacks_is_named():
    base = make_base(classes=0, schedule={"beta_schedule": "sigmoid"})
    with pytest.raises(SamplingError, match=r"'ddim'.*noise schedule.*sigmoid"):
        generate(base, None, 1, SamplingSettings(sampler="ddim", steps=2))


def test_more_steps_than_the_schedule_has_are_refused(tiny):
    with pytest.raises(SamplingError, match=r"1001.*1000 steps at most"):
        generate(tiny, np.array([0]), 1, SamplingSettings(steps=1001))


def test_heun_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"sampler.*'heun'.*zero terminal SNR"):
        SamplingSettings(sampler="heun")


def test_a_half_precision_base_samples():
    base = make_base()
    full = generate(base, np.arange(4), 4, SamplingSettings(steps=3)).astype(int)
    base.network.to(torch.bfloat16)
    half = generate(base, np.arange(4), 4, SamplingSettings(steps=3)).astype(int)
    assert 0 < np.abs(full - half).mean() < 5
