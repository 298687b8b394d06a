"""How training mixes images with noise, against the schedulers that sampling goes by."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from tiny import ZERO_SNR

from superlora_diffusion.models.noising import Diffusion, FlowMatching, noising_of, stratified_places


def tensors(count: int = 6):
    generator = torch.Generator().manual_seed(3)
    clean, noise = torch.randn(2, count, 2, 4, 4, generator=generator).unbind()
    return clean, noise


@pytest.fixture(params=[1.0, 3.0])
def flow(request):
    return FlowMatchEulerDiscreteScheduler(shift=request.param)


def test_flow_matching_mixes_as_its_scheduler_does(flow):
    noising = noising_of(flow)
    assert isinstance(noising, FlowMatching) and noising.length == 1000
    places = torch.tensor([0, 1, 250, 500, 900, 999])
    clean, noise = tensors()
    times = noising.times(places)
    wanted = flow.scale_noise(clean, times, noise)
    torch.testing.assert_close(noising.noisy(clean, noise, places), wanted)
    sigma = (times / 1000).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(wanted, (1 - sigma) * clean + sigma * noise)
    assert times[0] == 1000 and (times.diff() < 0).all()
    u = 1 - 500 / 1000  # before the shift, s u / (1 + (s - 1) u)
    shift = flow.config.shift
    assert times[3] == pytest.approx(1000 * shift * u / (1 + (shift - 1) * u))


def test_the_direction_leads_from_noise_to_the_image(flow):
    """Euler steps along what the network should say arrive at the image, from any place on the line."""
    noising = noising_of(flow)
    clean, noise = tensors()
    flow.set_timesteps(7)
    x, said = noise, noising.target(clean, noise, torch.zeros(6, dtype=torch.long))
    for timestep in flow.timesteps:
        x = flow.step(said, timestep, x).prev_sample
    torch.testing.assert_close(x, clean, rtol=1e-4, atol=1e-4)


def test_sampling_does_not_change_what_training_sees(flow):
    noising = noising_of(flow)
    before = noising.timesteps.clone()
    flow.set_timesteps(5)
    assert torch.equal(noising.timesteps, before) and len(noising_of(flow).timesteps) == 1000


def test_flow_matching_prefers_the_middle(flow):
    noising = noising_of(flow)
    places = noising.draw(20_000, torch.Generator().manual_seed(0))
    share = places.float() / 1000
    # Of a standard normal: P(sigmoid(z) < 0.5) = 1/2, P(sigmoid(z) < 0.25) = P(z < -1.0986) = 0.136.
    assert (share < 0.5).float().mean().item() == pytest.approx(0.5, abs=0.015)
    assert (share < 0.25).float().mean().item() == pytest.approx(0.136, abs=0.01)
    assert places.min() >= 0 and places.max() <= 999
    assert torch.equal(places, noising.draw(20_000, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_diffusion_mixes_and_aims_as_its_table_says(kind):
    options = ZERO_SNR if kind == "v_prediction" else {"prediction_type": kind}
    scheduler = DDPMScheduler(**options)
    noising = noising_of(scheduler)
    assert isinstance(noising, Diffusion) and noising.length == 1000
    clean, noise = tensors()
    places = torch.tensor([0, 10, 300, 600, 900, 999])
    bar = scheduler.alphas_cumprod[places].reshape(-1, 1, 1, 1)
    torch.testing.assert_close(
        noising.noisy(clean, noise, places), bar.sqrt() * clean + (1 - bar).sqrt() * noise
    )
    aims = {"epsilon": noise, "sample": clean, "v_prediction": bar.sqrt() * noise - (1 - bar).sqrt() * clean}
    torch.testing.assert_close(noising.target(clean, noise, places), aims[kind])
    assert torch.equal(noising.times(places), places)
    drawn = noising.draw(5000, torch.Generator().manual_seed(0))
    assert drawn.min() < 10 and drawn.max() > 990 and drawn.float().mean() == pytest.approx(499.5, abs=15)


def test_strata_hold_one_place_each():
    places = stratified_places(250, 1000, torch.Generator().manual_seed(1))
    assert sorted((places // 4).tolist()) == list(range(250)) and places.tolist() != sorted(places.tolist())
