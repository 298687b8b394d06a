"""Files of what was drawn: which pictures, in which order, with what written in them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from superlora_diffusion.app.pictures import PictureFolder, caption, columns_for
from superlora_diffusion.app.session import Drawn

SETTINGS = {
    "sources": [{"path": "runs/a", "weight": 0.7}, {"path": "runs/b", "weight": 0.3}], "scale": 0.5, "seed": 3,
    "sampling": {"sampler": "ddim", "steps": 20, "guidance_scale": 3.0},
}  # fmt: skip


def drawing(adapted=True, labels=("a", "b") * 2, channels=3, **settings):
    levels = np.array([10, 60, 110, 160], np.uint8)[:, None, None, None]
    base = np.broadcast_to(levels, (4, 8, 8, channels)).copy()
    return Drawn("one", base, base + 80 if adapted else None, labels, {**SETTINGS, **settings})


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def shades(path):
    """The grey levels of the pictures in a sheet, in the order of rows."""
    pixels = np.asarray(opened(path).convert("L"))[16:].ravel()  # below the labels
    counts = np.bincount(pixels, minlength=256)
    return [level for level in dict.fromkeys(pixels.tolist()) if counts[level] > 2000 and level < 255]


def test_each_sheet_has_its_pictures(tmp_path):
    sheets = PictureFolder(tmp_path / "drawn").save(drawing())
    assert shades(sheets.base) == [10, 60, 110, 160]
    assert shades(sheets.adapted) == [90, 140, 190, 240]
    both = opened(sheets.both)
    one, two = opened(sheets.base), opened(sheets.adapted)
    assert both.width == one.width + two.width + 12 and both.height == one.height + 22
    assert np.array_equal(np.asarray(both)[22:, : one.width], np.asarray(one))
    assert np.array_equal(np.asarray(both)[22:, -two.width :], np.asarray(two))
    assert 300 < one.width < 600  # enlarged
    assert json.loads(both.text["superlora-diffusion"])["scale"] == 0.5
    assert sheets.caption == "one, scale 0.5, weights 0.7 and 0.3, seed 3, ddim 20, guidance 3"


def test_a_base_alone_and_grey_pictures(tmp_path):
    alone = drawing(adapted=False, channels=1, sources=SETTINGS["sources"][:1])
    sheets = PictureFolder(tmp_path).save(alone)
    assert sheets.adapted is None and shades(sheets.both) == [10, 60, 110, 160]
    assert caption(alone) == "one, seed 3, ddim 20, guidance 3"


def test_labels_stand_over_columns_only_where_they_are_true(tmp_path):
    folder = PictureFolder(tmp_path)
    heights = [
        opened(folder.save(drawing(labels=labels)).base).height for labels in (("a", "b") * 2, ("a",) * 4, ())
    ]
    assert heights[0] == heights[1] + 16 and heights[1] == heights[2]
    crooked = opened(folder.save(drawing(labels=("a", "b", "b", "a"))).base)
    assert crooked.height == heights[1]


@pytest.mark.parametrize(
    ("count", "labels", "columns"),
    [
        (10, (), 5),
        (8, (), 4),
        (7, (), 3),
        (1, (), 1),
        (2, (), 2),
        (20, tuple("0123456789") * 2, 10),
        (4, ("a",) * 4, 2),
    ],
)
def test_columns(count, labels, columns):
    assert columns_for(count, labels) == columns


def test_the_oldest_files_go(tmp_path):
    folder = PictureFolder(tmp_path, most=4)
    kept = [folder.save(drawing()) for _ in range(3)][-1]
    assert len(list(tmp_path.iterdir())) == 4 and kept.both.is_file() and kept.base.is_file()
