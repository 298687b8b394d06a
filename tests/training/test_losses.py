"""The loss against the definitions, one image and one number at a time."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler
from tiny import ZERO_SNR
from torch import nn

from superlora_diffusion.models.base import Base
from superlora_diffusion.models.noising import min_snr_weights
from superlora_diffusion.training.losses import denoising_loss

KINDS = ("epsilon", "v_prediction", "sample")


def alpha_bars(zero_snr: bool) -> list[float]:
    """Products of 1 - beta for linear betas; rescaled to end in 0 (Lin et al. 2023, algorithm 1)."""
    bars, product = [], 1.0
    for index in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * index / 999)
        bars.append(product)
    if zero_snr:
        first, last = math.sqrt(bars[0]), math.sqrt(bars[-1])
        bars = [((math.sqrt(bar) - last) * first / (first - last)) ** 2 for bar in bars]
    return bars


def schedule(kind: str) -> DDPMScheduler:
    return DDPMScheduler(**ZERO_SNR) if kind == "v_prediction" else DDPMScheduler(prediction_type=kind)


class Network(nn.Module):
    """Something that depends on all it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, noisy, timesteps, class_labels=None):
        shift = 0 if class_labels is None else class_labels.reshape(-1, 1, 1, 1) / 3
        return SimpleNamespace(sample=torch.tanh(noisy * 1.3 + shift) - timesteps.reshape(-1, 1, 1, 1) / 2000)


network = Network()


def loss_of(kind: str, labels, gamma: float | None = None, called=network, image_weights=None):
    images, _, noise, timesteps = batch()
    condition = {} if labels is None else {"class_labels": labels}
    base = Base(network, schedule(kind), (), None, "tiny")
    return denoising_loss(base, called, images, condition, noise, timesteps, gamma, image_weights)


def batch():
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(5, 3, 4, 4, generator=generator) * 2 - 1
    noise = torch.randn(5, 3, 4, 4, generator=generator)
    return images, torch.tensor([0, 3, 1, 2, 0]), noise, torch.tensor([0, 12, 400, 850, 999])


def slow_loss(kind: str, gamma: float | None) -> float:
    bars = alpha_bars(zero_snr=kind == "v_prediction")
    total = 0.0
    for image, label, noise, t in zip(*batch(), strict=True):
        bar = max(bars[int(t)], 0.0)
        a, s = math.sqrt(bar), math.sqrt(1 - bar)
        noisy = a * image + s * noise
        said = network(noisy[None], t[None], label[None]).sample[0]
        target = {"epsilon": noise, "v_prediction": a * noise - s * image, "sample": image}[kind]
        error = sum(float(difference) ** 2 for difference in (said - target).flatten()) / image.numel()
        snr = bar / (1 - bar)
        if gamma is not None:
            weight = min(snr, gamma)
            error *= {"epsilon": weight / snr if snr else 1, "v_prediction": weight / (snr + 1)}.get(
                kind, weight
            )
        total += error
    return total / 5


@pytest.mark.parametrize("gamma", [None, 5.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_its_definition(kind, gamma):
    loss = loss_of(kind, batch()[1], gamma)
    assert loss.item() == pytest.approx(slow_loss(kind, gamma), rel=2e-4)
    assert loss.dtype == torch.float32 and loss.shape == ()


@pytest.mark.parametrize("kind", KINDS)
def test_min_snr_weighs_the_images_error_alike_for_every_prediction(kind):
    # With x = a x0 + s e, an error d of the image is an error a/s d of the noise and d/s of v.
    scheduler, timesteps = schedule(kind), torch.tensor([3, 100, 500, 900])
    bar = scheduler.alphas_cumprod[timesteps]
    of_prediction = {"epsilon": bar / (1 - bar), "v_prediction": 1 / (1 - bar), "sample": torch.ones(4)}[kind]
    weights = min_snr_weights(scheduler, timesteps, 5.0) * of_prediction
    torch.testing.assert_close(weights, (bar / (1 - bar)).clamp(max=5.0), rtol=1e-4, atol=1e-7)


def test_labels_reach_the_network_and_may_be_missing():
    with_labels, without = (loss_of("v_prediction", labels) for labels in (batch()[1], None))
    assert abs(with_labels - without) > 1e-3


def test_a_perfect_network_has_no_loss():
    images, labels, noise, timesteps = batch()
    scheduler = schedule("v_prediction")
    bar = scheduler.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1)
    right = bar.sqrt() * noise - (1 - bar).sqrt() * images

    def perfect(*args, **kwargs):
        return SimpleNamespace(sample=right)

    assert loss_of("v_prediction", labels, called=perfect).item() < 1e-10


def test_images_weigh_as_they_are_told():
    alone = [loss_of("epsilon", batch()[1], image_weights=torch.eye(5)[index]).item() for index in range(5)]
    weighted = loss_of("epsilon", batch()[1], image_weights=torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0])).item()
    assert weighted == pytest.approx(0.5 * alone[0] + 2 * alone[1] + alone[3] + 3 * alone[4], rel=1e-5)
    assert sum(alone) == pytest.approx(loss_of("epsilon", batch()[1]).item(), rel=1e-5)
