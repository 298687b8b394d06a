"""Render the letters A to J, white on black, as an npz: a target that no setting was chosen on.

Each takes the place of a digit's class (A that of 0, ...). The fonts are those of `synthdigits`; size, place, rotation,
shear and stretch are drawn from a generator of each picture's own, so that any prefix is the same whatever the number.

Examples:
  python scripts/render_letters.py letters.npz
  superlora-diff train --config demo data.name=npz:letters.npz output=runs/letters
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from PIL import Image

from superlora_diffusion.data.glyphs import FONTS, GLYPH_HEIGHT, digit_glyph
from superlora_diffusion.files import write_atomically

LETTERS = "ABCDEFGHIJ"
_DRAWN = 112  # pixels that a letter is drawn at before it is averaged down


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the file to write, such as letters.npz")
    parser.add_argument("--count", type=int, default=10_000, help="how many pictures (10,000)")
    parser.add_argument("--size", type=int, default=28, help="their side in pixels, a divisor of 112 (28)")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.count < 1 or asked.size < 1 or _DRAWN % asked.size:
        parser.error(
            f"got --count {asked.count}, --size {asked.size}: at least 1, and a divisor of {_DRAWN}."
        )
    images = np.stack([render(asked.seed, index, asked.size) for index in range(asked.count)])
    labels = np.arange(asked.count) % len(LETTERS)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(asked.out, lambda partial: _save(partial, images, labels))
    print(f"{asked.out}: {asked.count:,} pictures of {', '.join(LETTERS)}, {asked.size} x {asked.size}")


def render(seed: int, index: int, size: int) -> np.ndarray:
    """Picture ``index``: (size, size) uint8."""
    generator = np.random.default_rng([seed, index])
    glyph = digit_glyph(int(generator.integers(len(FONTS))), LETTERS[index % len(LETTERS)])
    height, stretch = generator.uniform(0.5, 0.75) * _DRAWN / GLYPH_HEIGHT, generator.uniform(0.8, 1.25)
    angle, shear = math.radians(generator.uniform(-15, 15)), generator.uniform(-0.3, 0.3)
    forward = height * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = forward @ np.array([[stretch, shear], [0, 1]])
    back = np.linalg.inv(forward)
    middle = _DRAWN / 2 + generator.uniform(-0.06, 0.06, 2) * _DRAWN
    offset = np.array([glyph.width / 2, glyph.height / 2]) - back @ middle
    data = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    drawn = glyph.transform((_DRAWN, _DRAWN), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    return np.asarray(drawn.reduce(_DRAWN // size))


def _save(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, images=images, labels=labels)


if __name__ == "__main__":
    main()
