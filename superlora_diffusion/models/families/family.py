"""``Family``: what training, sampling and scoring must know of a kind of network, and nothing else knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ...errors import BaseModelError
from ..conditioning import Condition

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

    from ..base import Base

Asked = Sequence[int] | Sequence[str] | None
"""What images are asked to be: class indices, prompts, or nothing."""


class Family(ABC):
    """How one kind of network is loaded, conditioned, called, and how its latents become images.

    It has no state: what belongs to one base is in :class:`Base`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """For people."""
    network: ClassVar[str]
    """Class of its denoiser in diffusers."""
    part: ClassVar[str] = "unet"
    """Folder of the denoiser in a pipeline."""
    conditioning: ClassVar[Literal["class", "text"]] = "class"
    targets: ClassVar[tuple[str, ...]] = ("to_q", "to_v")
    """What an adapter adapts where its settings do not say."""
    text_targets: ClassVar[tuple[str, ...]] = ()
    """Those in the text encoders, where they are adapted, too."""
    sampling: ClassVar[MappingProxyType[str, Any]] = MappingProxyType({"steps": 10, "guidance_scale": 1.5})
    """How images are drawn where nobody says."""

    def drives(self, config: dict[str, Any]) -> bool:
        """Whether a network with this config.json is one of the family."""
        return config.get("_class_name") == self.network

    # --- loading ---

    def load_network(
        self, folder: str, torch_dtype: torch.dtype = torch.float32, **options: Any
    ) -> nn.Module:
        """The denoiser from its folder, its parameters of ``torch_dtype``. ``options`` go to diffusers."""
        import diffusers

        kind = getattr(diffusers, self.network)
        network = kind.from_pretrained(folder, low_cpu_mem_usage=False, torch_dtype=torch_dtype, **options)
        for parameter in network.parameters():
            # diffusers keeps the files' own type where a network's first tensor is an fp32 table (Stable Diffusion 3).
            parameter.data = parameter.data.to(torch_dtype)
        return network

    def load_scheduler(self, folder: str) -> SchedulerMixin:
        """The noise schedule for training and the source of samplers."""
        from diffusers import DDPMScheduler

        return DDPMScheduler.from_pretrained(folder)

    def check(self, base: Base) -> None:
        """Refuse, by BaseModelError, a network that the loop and the producer cannot drive."""
        config = base.network.config
        if config.out_channels != config.in_channels:
            raise BaseModelError(
                f"base {base.name!r} predicts {config.out_channels} channels from {config.in_channels}; equally "
                "many are accepted. A base for inpainting or editing takes further channels: use the plain one."
            )

    # --- images and what the network works on ---

    @abstractmethod
    def size(self, base: Base) -> int:
        """Side of the square images that the network was made for, in pixels."""

    @abstractmethod
    def multiple(self, base: Base) -> int:
        """Sides of images are whole multiples of this."""

    def size_fault(self, base: Base, height: int, width: int) -> str | None:
        """Why the network cannot work on images of so many pixels, beside :meth:`multiple`; None where it can."""
        return None

    @abstractmethod
    def shape(self, base: Base, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of what the network works on for an image of so many pixels."""

    @abstractmethod
    def image_channels(self, base: Base) -> int:
        """1 or 3."""

    @property
    def is_latent(self) -> bool:
        """Whether the network works on latents of an autoencoder."""
        return False

    def decode(self, base: Base, clean: Tensor) -> Tensor:
        """(B, C, h, w) of the network to images (B, 3, H, W) in [-1, 1]."""
        return clean

    # --- conditioning ---

    @abstractmethod
    def condition(self, base: Base, asked: Asked, device: torch.device) -> Condition:
        """What the network gets for images that are asked to be something (rows: images)."""

    @abstractmethod
    def null_condition(self, base: Base, device: torch.device, negative: str = "") -> Condition:
        """One row that means "nothing in particular", for guidance and for dropout.

        Raises:
            BaseModelError: if the base has none.
        """

    # --- the network ---

    def predict(
        self, base: Base, network: nn.Module, noisy: Tensor, times: Tensor, condition: Condition
    ) -> Tensor:
        """The network's prediction (B, C, h, w).

        Args:
            base: whose network it is.
            network: the base's denoiser, perhaps wrapped.
            noisy: (B, C, h, w)
            times: (B,)
            condition: of B images.
        """
        return network(noisy, times, **condition).sample
