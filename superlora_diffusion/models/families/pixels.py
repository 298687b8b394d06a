"""Pixels: ``UNet2DModel`` of ``DDPMPipeline``, class-conditional or unconditional."""

from __future__ import annotations

from ...errors import BaseModelError
from ..base import Base
from .classes import ClassConditional


class Pixels(ClassConditional):
    """Denoises images themselves."""

    name, title = "pixels", "class-conditional or unconditional, in pixels"
    network = "UNet2DModel"

    def check(self, base: Base) -> None:
        """Square images, and classes by index or none at all."""
        super().check(base)
        config = base.network.config
        size = config.sample_size
        if not isinstance(size, int) and (size is None or len(set(size)) != 1):
            raise BaseModelError(
                f"base {base.name!r} has sample_size {size}; one number, or two equal ones, is accepted."
            )
        if config.class_embed_type is not None:
            raise BaseModelError(
                f"base {base.name!r} embeds classes by {config.class_embed_type!r}; an index (num_class_embeds), or "
                "no classes at all, is accepted."
            )

    def size(self, base: Base) -> int:
        """The network's own."""
        size = base.network.config.sample_size
        return int(size if isinstance(size, int) else size[0])

    def multiple(self, base: Base) -> int:
        """Every block but the last halves the side."""
        return 2 ** (len(base.network.config.block_out_channels) - 1)

    def shape(self, base: Base, height: int, width: int) -> tuple[int, int, int]:
        """The image's own."""
        return self.image_channels(base), height, width

    def image_channels(self, base: Base) -> int:
        """The network's."""
        return int(base.network.config.in_channels)


FAMILY = Pixels()
