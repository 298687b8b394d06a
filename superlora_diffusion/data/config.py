"""The typed settings of a data set. Imports pydantic only, so that a config is checked without torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from superlora_diffusion.settings import Settings

BaseClass = Annotated[int, Field(ge=0)]


class AugmentConfig(Settings):
    """Random changes of the training images; all off by default, because a flipped 2 is no digit."""

    shift: int = Field(default=0, ge=0, le=64)
    """Largest shift in pixels of the prepared picture, in each direction, drawn uniformly."""

    rotate: float = Field(default=0.0, ge=0.0, le=180.0)
    """Largest rotation in degrees, either way, drawn uniformly."""

    scale: float = Field(default=0.0, ge=0.0, le=0.9)
    """Sizes are multiplied by a factor drawn uniformly from 1 - scale to 1 + scale."""

    flip: bool = False
    """Mirror left and right with probability one half. Not for digits."""

    @property
    def is_identity(self) -> bool:
        """Whether images pass through unchanged."""
        return not (self.shift or self.rotate or self.scale or self.flip)


class SynthDigitsConfig(Settings):
    """How the `synthdigits` pictures are rendered; the cached file is keyed by these values."""

    count_train: int = Field(default=20_000, ge=10)
    """Training images. Image i shows the digit i % 10, so that every prefix is balanced."""

    count_test: int = Field(default=4_000, ge=10)
    """Test images, drawn from a stream of their own."""

    size: int = Field(default=32, ge=8, le=128)
    """Side of the square pictures in pixels. The same seed gives the same scenes at every size."""

    seed: int = Field(default=0, ge=0)
    """Image i of a split depends on (seed, split, i) and on these settings alone."""

    neighbours: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of the pictures in which parts of other digits stand at the left or right edge, or both."""

    rotation: float = Field(default=8.0, ge=0.0, le=30.0)
    """Largest rotation in degrees, either way."""

    blur: float = Field(default=0.02, ge=0.0, le=0.1)
    """Largest blur (standard deviation) as a share of the picture's side."""

    noise: float = Field(default=0.015, ge=0.0, le=0.2)
    """Largest pixel noise (standard deviation), 1 being the whole range of a channel."""


class DataConfig(Settings):
    """Which images a run sees."""

    name: str = "mnist-mini"
    """mnist-mini, synthdigits, digits, svhn, mnist, usps, fashionmnist, cifar10, cifar100, imagefolder:PATH
    or npz:PATH."""

    root: str | None = None
    """Folder of the torchvision sets; by default `torchvision` in the cache folder."""

    download: bool = False
    """Let torchvision fetch a set that is missing in `root`."""

    class_map: dict[int | str, BaseClass] | None = None
    """Class of the data (its index or its name) -> class of the base, for every class of the data. Several
    classes may go to one."""

    limit: int | None = Field(default=None, ge=1)
    """Take only so many images of each split: the first ones of each class, as evenly as the counts allow."""

    caption_template: str | None = None
    """Text of the images that come without captions, for bases that read text: "a photo of a {}", the {} filled
    with the name of the class; without braces, as in "a photo of sks dog", that of all of them. Left out, the text is
    the class's name alone."""

    caption_column: str | None = None
    """Column of the captions in an image folder's metadata.jsonl or metadata.csv; by default text, else caption,
    else prompt."""

    resolution: int | None = Field(default=None, ge=8, le=4096, multiple_of=8)
    """Side in pixels that images are brought to, for bases that take any; by default the base's own."""

    buckets: bool = False
    """Let pictures keep their proportions, for bases that take any: groups (buckets) of one shape, each of about
    resolution x resolution pixels. Otherwise every picture becomes a square."""

    bucket_multiple: int = Field(default=64, ge=8, le=1024, multiple_of=8)
    """The sides of the buckets' shapes are multiples of it; it divides the resolution."""

    bucket_ratio: float = Field(default=2.0, ge=1.0, le=8.0)
    """Longest side to shortest, at most, of the buckets' shapes; longer pictures are cropped to it."""

    augment: AugmentConfig = AugmentConfig()
    """Random changes of the training images."""

    synthdigits: SynthDigitsConfig = SynthDigitsConfig()
    """How `synthdigits` is rendered; no other set reads it."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        from superlora_diffusion.data.loading import check_name  # the registry; it imports this file

        check_name(name)
        return name

    @field_validator("caption_template")
    @classmethod
    def _has_one_gap(cls, template: str | None) -> str | None:
        if template is not None and (
            not template.strip()
            or template.count("{}") > 1
            or any(sign in template.replace("{}", "") for sign in "{}")
        ):
            raise ValueError(
                f"got {template!r}, expected one {{}}, where the class name goes, or none, and no other braces, "
                'as in "a photo of a {}".'
            )
        return template
