"""Every pixel of the grid where it belongs."""

from __future__ import annotations

import numpy as np
from PIL import Image

from superlora_diffusion.sampling.grid import grid_image, save_grid


def numbered(count: int, channels: int = 3) -> np.ndarray:
    """Images of 3 x 4 pixels whose pixels all differ within an image and from other images."""
    values = np.arange(count * 12, dtype=np.uint8).reshape(count, 3, 4, 1)
    return np.repeat(values, channels, axis=-1)


def test_images_stand_row_by_row_with_white_between():
    images = numbered(5)
    sheet = np.asarray(grid_image(images, columns=2))
    assert sheet.shape == (3 * (3 + 2) + 2, 2 * (4 + 2) + 2, 3)
    covered = np.zeros(sheet.shape[:2], dtype=bool)
    for index, image in enumerate(images):
        top, left = 2 + index // 2 * 5, 2 + index % 2 * 6
        assert np.array_equal(sheet[top : top + 3, left : left + 4], image)
        covered[top : top + 3, left : left + 4] = True
    assert (sheet[~covered] == 255).all()


def test_grey_images_become_colour_and_zoom_repeats_pixels():
    images = numbered(2, channels=1)
    sheet = np.asarray(grid_image(images, columns=2, zoom=3))
    assert sheet.shape == (9 + 4, 2 * 14 + 2, 3)
    big = sheet[2:11, 16:28]
    assert np.array_equal(big[1::3, 1::3], np.repeat(images[1], 3, axis=-1))
    assert np.array_equal(big, big[1::3, 1::3].repeat(3, axis=0).repeat(3, axis=1))


def test_labels_stand_over_their_columns_and_move_the_images_down():
    images = np.full((2, 40, 40, 3), 200, dtype=np.uint8)
    plain, labelled = (np.asarray(grid_image(images, 2, labels)) for labels in (None, ["", "8"]))
    assert labelled.shape[0] == plain.shape[0] + 16
    assert np.array_equal(labelled[16:], plain)
    head = labelled[:16]
    assert (head[:, :42] == 255).all() and (head[:, 44:84] < 100).any()


def test_a_saved_grid_enlarges_small_images(tmp_path):
    path = tmp_path / "deep" / "grid.png"
    save_grid(path, np.zeros((2, 8, 8, 3), dtype=np.uint8), 2)
    with Image.open(path) as picture:
        assert picture.size == (2 * (48 + 2) + 2, 48 + 4)
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]
