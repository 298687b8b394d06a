"""`synthdigits`: coloured printed digits on coloured grounds, standing in for photographed house numbers.

Image i of a split depends on (seed, split, i) and the settings alone: it has a random generator of its own,
from which first the scene and then the pixel noise are drawn. Shapes are drawn by Pillow at several times the
size and averaged down; colours are put in by numpy, a block of images at a time.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING

import numpy as np

from superlora_diffusion.data.cache import cache_root, cached_arrays
from superlora_diffusion.data.config import SynthDigitsConfig
from superlora_diffusion.data.glyphs import FONTS, GLYPH_HEIGHT, digit_glyph
from superlora_diffusion.data.records import SPLITS, ImageSet, Split, make_image_set

if TYPE_CHECKING:
    from PIL.Image import Image

RENDERER_VERSION = 1
"""Part of the cache key. Raise it whenever the same settings give other pictures."""

DIGITS = tuple("0123456789")
CANVAS = 96  # pixels at least that shapes are drawn at, so that a glyph is neither enlarged nor thinned out
BLOCK = 500  # images coloured at a time: keeps the float arrays near 50 MB
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601: what a grey conversion will make of the colours

# Scene: numbers drawn uniformly in [0, 1), one column each, in this order. Never reorder: it is the format.
COLUMNS = (
    *("font", "height", "shift_x", "shift_y", "rotation", "shear", "stretch"),
    *("neighbours", "side", "left_digit", "right_digit", "left_gap", "right_gap"),
    *("back_hue", "back_saturation", "back_luma", "gradient", "gradient_angle", "gradient_size"),
    *("ink_hue", "ink_saturation", "ink_side", "ink_contrast", "blur", "noise"),
)
COLUMN = {name: index for index, name in enumerate(COLUMNS)}

MIN_CONTRAST = 0.36  # least luma between ink and ground at the picture's centre
GRADIENT_CONTRAST = 0.05  # largest luma a gradient adds or takes away at a corner


def load_synthdigits(config: SynthDigitsConfig, split: Split) -> ImageSet:
    """The whole split, rendered once and kept in the cache folder."""
    path = cache_root() / "synthdigits" / f"{split}-{settings_key(config, split)}.npz"
    arrays = cached_arrays(
        path, lambda: dict(zip(("images", "labels"), render_split(config, split), strict=True))
    )
    return make_image_set(
        arrays["images"], arrays["labels"], DIGITS, name="synthdigits", split=split, source=str(path)
    )


def settings_key(config: SynthDigitsConfig, split: Split) -> str:
    """Short hash of what the pictures of this split depend on, beside the split's name."""
    settings = config.model_dump(exclude={"count_train", "count_test"})
    settings |= {"count": _count(config, split), "renderer": RENDERER_VERSION}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def render_split(config: SynthDigitsConfig, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, S, S, 3) uint8 and labels (N,) int64 of the whole split."""
    indices = np.arange(_count(config, split))
    blocks = [
        render_images(config, split, indices[start : start + BLOCK])
        for start in range(0, len(indices), BLOCK)
    ]
    return np.concatenate(blocks), digit_of(indices)


def render_images(config: SynthDigitsConfig, split: Split, indices: np.ndarray) -> np.ndarray:
    """The pictures with these numbers, (B, S, S, 3) uint8; which others are asked for makes no difference."""
    generators = [np.random.default_rng([config.seed, SPLITS.index(split), int(index)]) for index in indices]
    scenes = np.stack([generator.random(len(COLUMNS)) for generator in generators])  # (B, columns)
    noise_shape = (config.size, config.size, 3)
    noise = np.stack([generator.standard_normal(noise_shape, dtype=np.float32) for generator in generators])
    ink = np.stack(
        [_ink_mask(config, scene, digit) for scene, digit in zip(scenes, digit_of(indices), strict=True)]
    )
    return _colour(config, scenes, ink, noise)


def digit_of(indices: np.ndarray) -> np.ndarray:
    """The digit that picture i shows: i % 10, so that every prefix is balanced."""
    return np.asarray(indices, dtype=np.int64) % 10


def _count(config: SynthDigitsConfig, split: Split) -> int:
    return config.count_train if split == "train" else config.count_test


def _between(scene: np.ndarray, name: str, low: float, high: float):  # -> (...): scene's last axis taken
    return low + (high - low) * scene[..., COLUMN[name]]


# --- shapes, one picture at a time --------------------------------------------------------------------------


def _ink_mask(config: SynthDigitsConfig, scene: np.ndarray, digit: int) -> np.ndarray:  # -> (S, S) uint8
    """How much of each pixel is ink: the digit and its neighbours, moved as one, averaged down, blurred."""
    from PIL import Image, ImageFilter

    side = config.size * max(2, math.ceil(CANVAS / config.size))
    strip = _strip(config, scene, digit)
    moved = strip.transform(
        (side, side), Image.Transform.AFFINE, _affine(config, scene, side, strip), Image.Resampling.BILINEAR
    )
    mask = moved.reduce(side // config.size)
    sigma = float(_between(scene, "blur", 0.0, config.blur) * config.size)
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(sigma)))


def _strip(config: SynthDigitsConfig, scene: np.ndarray, digit: int) -> Image:
    """The digit in the middle of a black strip, beside it in the same font the neighbours the scene has."""
    from PIL import Image

    font = int(_between(scene, "font", 0, len(FONTS)))
    glyph = digit_glyph(font, int(digit))
    strip = Image.new("L", (4 * GLYPH_HEIGHT, GLYPH_HEIGHT + 2))  # a black line above and below: soft borders
    left = (strip.width - glyph.width) // 2
    strip.paste(glyph, (left, 1))
    for side in _neighbour_sides(config, scene):
        other = digit_glyph(font, int(_between(scene, f"{side}_digit", 0, 10)))
        # At least so far off that only a part of the neighbour is in the picture, whatever the digit's width.
        gap = max(
            _between(scene, f"{side}_gap", 0.12, 0.3) * GLYPH_HEIGHT, 0.5 * (0.9 * GLYPH_HEIGHT - glyph.width)
        )
        start = left - gap - other.width if side == "left" else left + glyph.width + gap
        strip.paste(other, (round(start), 1))
    return strip


def _neighbour_sides(config: SynthDigitsConfig, scene: np.ndarray) -> tuple[str, ...]:
    if scene[COLUMN["neighbours"]] >= config.neighbours:
        return ()
    return (("left",), ("right",), ("left", "right"))[int(_between(scene, "side", 0, 3))]


def _affine(config: SynthDigitsConfig, scene: np.ndarray, side: int, strip: Image) -> tuple[float, ...]:
    """The six numbers PIL wants: from a pixel of the picture to the place in the strip it is taken from."""
    scale = _between(scene, "height", 0.62, 0.80) * side / GLYPH_HEIGHT
    stretch = _between(scene, "stretch", 0.9, 1.12)
    angle = math.radians(_between(scene, "rotation", -config.rotation, config.rotation))
    shear = _between(scene, "shear", -0.12, 0.12)
    cos, sin = math.cos(angle), math.sin(angle)
    forward = (
        np.array([[cos, -sin], [sin, cos]]) @ [[1.0, shear], [0.0, 1.0]] @ np.diag([scale * stretch, scale])
    )
    inverse = np.linalg.inv(forward)
    centre = side / 2 + side * np.array([_between(scene, f"shift_{axis}", -0.06, 0.06) for axis in "xy"])
    origin = np.array([strip.width / 2, strip.height / 2]) - inverse @ centre
    (a, b), (d, e) = inverse
    return float(a), float(b), float(origin[0]), float(d), float(e), float(origin[1])


# --- colours, a block at a time -----------------------------------------------------------------------------


def _colour(config: SynthDigitsConfig, scenes: np.ndarray, ink: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Ground and ink by the mask, plus noise: (B, S, S, 3) uint8."""
    ground, ink_colour = _colours(scenes)  # (B, 3) each
    ground = ground[:, None, None, :] + _gradient(scenes, config.size)[..., None]  # (B, S, S, 3)
    cover = ink[..., None].astype(np.float32) / 255
    picture = ground + cover * (ink_colour[:, None, None, :] - ground)
    picture = picture + noise * _between(scenes, "noise", 0.0, config.noise)[:, None, None, None]
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def _colours(scenes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ground and ink, (B, 3) each in [0, 1], at least ``MIN_CONTRAST`` of luma apart.

    The ground's luma lies in the middle of the range and its hue is a saturated one: never near black or
    grey, which is what tells this domain from handwriting on black.
    """
    luma = _between(scenes, "back_luma", 0.32, 0.62)
    ground = _with_luma(_hue(scenes, "back", 0.65, 1.0), luma)
    # The ink is darker or lighter, wherever there is room for the contrast; at random where both have it.
    darker_fits, lighter_fits = luma - MIN_CONTRAST >= 0.02, 0.98 - luma >= MIN_CONTRAST
    darker = darker_fits & (~lighter_fits | (scenes[:, COLUMN["ink_side"]] < 0.5))
    room = np.where(darker, luma, 0.98 - luma)
    contrast = MIN_CONTRAST + (room - MIN_CONTRAST) * scenes[:, COLUMN["ink_contrast"]]
    ink_luma = np.where(darker, luma - contrast, luma + contrast)
    return ground, _with_luma(_hue(scenes, "ink", 0.2, 1.0), ink_luma)


def _hue(scenes: np.ndarray, what: str, least: float, most: float) -> np.ndarray:  # -> (B, 3)
    """The brightest colour of the scene's hue and saturation (HSV with value 1)."""
    hue, saturation = scenes[:, COLUMN[f"{what}_hue"]], _between(scenes, f"{what}_saturation", least, most)
    distance = np.abs(
        (hue[:, None] * 6 - np.array([0, 2, 4]) + 3) % 6 - 3
    )  # from red, green, blue on the circle
    return 1 - saturation[:, None] * np.clip(distance - 1, 0, 1)


def _with_luma(colour: np.ndarray, luma: np.ndarray) -> np.ndarray:  # (B, 3), (B,) -> (B, 3)
    """The colour darkened (towards black) or paled (towards white) until its luma is the one given."""
    own = (colour @ LUMA)[:, None]
    wanted = luma[:, None]
    paled = colour + (1 - colour) * (wanted - own) / np.maximum(1 - own, 1e-9)
    return np.where(wanted <= own, colour * wanted / own, paled)


def _gradient(scenes: np.ndarray, size: int) -> np.ndarray:  # -> (B, S, S)
    """What is added to the ground: a soft linear change across the picture on four of ten, else nothing."""
    amount = np.where(
        scenes[:, COLUMN["gradient"]] < 0.4, _between(scenes, "gradient_size", 0, GRADIENT_CONTRAST), 0
    )
    angle = 2 * np.pi * scenes[:, COLUMN["gradient_angle"]]
    steps = (np.arange(size) + 0.5) / size * 2 - 1  # -1 to 1
    across = np.cos(angle)[:, None, None] * steps[None, None, :]
    down = np.sin(angle)[:, None, None] * steps[None, :, None]
    return amount[:, None, None] * (across + down) / np.sqrt(2)
