"""A base: a denoising U-Net, its noise schedule, and what its classes mean."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import DDPMScheduler, UNet2DModel

from ..errors import BaseModelError


@dataclass
class Base:
    """What training and sampling need to know of a base."""

    network: UNet2DModel
    scheduler: DDPMScheduler
    class_names: tuple[str, ...]
    """Names of the classes that can be asked for; empty for an unconditional base."""
    null_class: int | None
    """The class index that means "no class", or None where the base has none."""
    name: str

    @property
    def size(self) -> int:
        """Side of the square images, in pixels."""
        size = self.network.config.sample_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def channels(self) -> int:
        return int(self.network.config.in_channels)

    @property
    def classes(self) -> int | None:
        """How many classes can be asked for, or None for an unconditional base."""
        return len(self.class_names) or None

    def require_null_class(self, wish: str) -> int:
        """The null class, or an error saying what ``wish`` needs it for.

        Raises:
            BaseModelError: if the base has no null class.
        """
        if self.null_class is None:
            raise BaseModelError(
                f"base {self.name!r} has no null class, which {wish} needs. Use guidance scale 1 (and "
                "train.class_dropout 0), or name the class index that means 'no class' in base.null_class."
            )
        return self.null_class
