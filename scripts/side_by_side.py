"""Two pictures beside each other, such as the grids before and after training in the README.

Example:
  python scripts/side_by_side.py runs/demo/samples/before/grid.png runs/demo/samples/after/grid.png docs/demo.png
"""

from __future__ import annotations

import argparse

from PIL import Image

from superlora_diffusion.files import write_atomically

_GAP = 12


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("left")
    parser.add_argument("right")
    parser.add_argument("out")
    options = parser.parse_args()
    left, right = (Image.open(path).convert("RGB") for path in (options.left, options.right))
    sheet = beside(left, right)
    write_atomically(options.out, lambda partial: sheet.save(partial, format="PNG", optimize=True))


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Both on white, a gap between them, their upper edges level."""
    sheet = Image.new("RGB", (left.width + _GAP + right.width, max(left.height, right.height)), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + _GAP, 0))
    return sheet


if __name__ == "__main__":
    main()
