"""Digit shapes from the fonts that matplotlib ships (DejaVu, STIX, Computer Modern; all freely licensed)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from superlora_diffusion.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# The fonts with plain lining digits. A fixed list, not a search of the folder: the picture numbers must not
# shift when matplotlib adds a font. cmmi10 has old-style digits; the rest left out has symbols or no digits.
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Italic", "Bol", "BolIta")),
    *("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
GLYPH_HEIGHT = 72
"""Height in pixels that every digit's outline is brought to."""


@cache
def digit_glyph(font: int, digit: int) -> Image:
    """The tight mask (mode L, ``GLYPH_HEIGHT`` high, 255 = ink) of a digit in ``FONTS[font]``.

    Raises:
        DataError: the installed matplotlib lacks the font.
    """
    from PIL import Image

    # Drawn twice as large and scaled down: smooth edges, and no hinting to a pixel grid.
    mask = _draw(_font_path(FONTS[font]), str(digit), 2 * GLYPH_HEIGHT)
    width = max(1, round(mask.width * GLYPH_HEIGHT / mask.height))
    return mask.resize((width, GLYPH_HEIGHT), Image.Resampling.LANCZOS)


def _draw(path: Path, text: str, size: int) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (3 * size, 3 * size))
    ImageDraw.Draw(canvas).text((size, size // 2), text, fill=255, font=face)
    return canvas.crop(canvas.getbbox())


def _font_path(name: str) -> Path:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    if not path.is_file():
        raise DataError(
            f"{path}: font not found; synthdigits draws with the fonts that matplotlib ships "
            f"(installed: {matplotlib.__version__}). Reinstall matplotlib."
        )
    return path
