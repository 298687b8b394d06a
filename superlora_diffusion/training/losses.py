"""The denoising loss: how far the prediction is from its target, and how each timestep weighs."""

from __future__ import annotations

from torch import Tensor, nn

from ..models.base import Base
from ..models.conditioning import Condition
from ..models.noising import min_snr_weights


def denoising_loss(
    base: Base,
    network: nn.Module,
    clean: Tensor,
    condition: Condition,
    noise: Tensor,
    places: Tensor,
    min_snr_gamma: float | None = None,
    image_weights: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the prediction over a batch, a scalar in fp32.

    Args:
        base: whose family and noise schedule decide what the network is told and what it should say.
        network: the base's denoiser, perhaps wrapped.
        clean: (B, C, h, w) images in [-1, 1], or latents.
        condition: what they are asked to be; empty for an unconditional network.
        noise: (B, C, h, w) standard normal.
        places: (B,) on the noise schedule, in [0, base.noising.length).
        min_snr_gamma: clip of the min-SNR weighting; None weights all timesteps alike.
        image_weights: (B,) weight of each image; None weights all alike.
    """
    noising = base.noising
    noisy = noising.noisy(clean, noise, places).to(base.dtype)
    prediction = base.predict(noisy, noising.times(places), condition, network)
    target = noising.target(clean, noise, places)
    errors = (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))
    if min_snr_gamma is not None:
        errors = errors * min_snr_weights(base.scheduler, places, min_snr_gamma)
    return (errors if image_weights is None else errors * image_weights).mean()
