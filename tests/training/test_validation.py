"""The held-out loss: fixed, complete, and no business of the batch size."""

from __future__ import annotations

import pytest
import torch
from tiny import make_base

from superlora_diffusion.training import validation
from superlora_diffusion.training.losses import denoising_loss
from superlora_diffusion.training.validation import Validation


@pytest.fixture(scope="module")
def base():
    return make_base()


def problems(base, count=11, seed=3):
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Validation(base, [(images, {"class_labels": torch.arange(count) % 4})], seed)


def test_it_is_the_mean_over_single_images_whatever_the_chunks(base, monkeypatch):
    held_out = problems(base)
    (part,) = held_out.problems
    rows = zip(part.clean, part.condition["class_labels"], part.noise, part.places, strict=True)
    with torch.no_grad():
        single = [
            denoising_loss(
                base, base.network, image[None], {"class_labels": label[None]}, noise[None], place[None]
            ).item()
            for image, label, noise, place in rows
        ]
    losses = [held_out.loss(base.network, torch.device("cpu"))]
    monkeypatch.setattr(validation, "_CHUNK", 4)
    losses.append(held_out.loss(base.network, torch.device("cpu")))
    assert losses == pytest.approx([sum(single) / 11] * 2, rel=1e-5)
    assert min(single) < 0.9 * max(single)


def test_it_repeats_exactly_and_follows_its_seed(base):
    torch.manual_seed(1)
    first = problems(base).loss(base.network, torch.device("cpu"))
    torch.manual_seed(2)
    assert problems(base).loss(base.network, torch.device("cpu")) == first
    assert problems(base, seed=4).loss(base.network, torch.device("cpu")) != first


def test_timesteps_cover_the_schedule_evenly_in_no_order(base):
    timesteps = problems(base, count=100).problems[0].places
    assert sorted((timesteps // 10).tolist()) == list(range(100))
    assert timesteps.tolist() != sorted(timesteps.tolist())
    assert problems(base, count=3000).problems[0].places.max() == 999


def test_the_networks_mode_is_left_as_it_was(base):
    for training in (True, False):
        base.network.train(training)
        problems(base).loss(base.network, torch.device("cpu"))
        assert base.network.training is training
        assert all(parameter.grad is None for parameter in base.network.parameters())
