import math
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageOps

from superlora_diffusion.data.buckets import bucket_shapes, load_buckets, nearest_shape
from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.data.preparation import prepare
from superlora_diffusion.errors import ConfigError

RNG = np.random.default_rng(0)


def write(path, height, width, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(array).save(path, **options)
    return array


def buckets_of(root, split="train", size=64, channels=3, multiple=8, **settings):
    settings = {"buckets": True, "bucket_multiple": 8, **settings}
    return load_buckets(DataConfig(name=f"imagefolder:{root}", **settings), split, size, channels, multiple)


# --- the shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "multiple", "ratio"),
    [
        (512, 64, 2.0),
        (1024, 64, 2.0),
        (1024, 32, 4.0),
        (64, 8, 1.5),
        (64, 64, 2.0),
        (24, 8, 8.0),
        (96, 8, 1.0),
    ],
)
def test_shapes_against_the_definition(size, multiple, ratio):
    sides = range(0, 9 * size, multiple)
    expected = set()
    for long in sides:
        # The height that comes nearest to the number of pixels, the smaller of two.
        short = min(sides, key=lambda side: (abs(side * long - size * size), side))
        if 0 < short <= size <= long <= ratio * short:
            expected |= {(short, long), (long, short)}
    shapes = bucket_shapes(size, multiple, ratio)
    assert set(shapes) == expected and (size, size) in shapes and len(set(shapes)) == len(shapes)
    assert all(height * other[1] < other[0] * width for (height, width), other in pairwise(shapes))


def test_the_shapes_of_512():
    wide = ((384, 704), (384, 640), (448, 576))
    tall = tuple((width, height) for height, width in wide)
    assert set(bucket_shapes(512, 64, 2.0)) == {*wide, (512, 512), *tall}


def test_nearest_is_by_the_factor_of_proportions_not_their_difference():
    shapes = bucket_shapes(1024, 64, 2.0)
    for height, width in [(100, 100), (300, 401), (401, 300), (10, 500), (500, 10), (9, 14), (767, 1000)]:
        expected = min(shapes, key=lambda shape: abs(math.log(shape[0] * width / (shape[1] * height))))
        assert nearest_shape((height, width), shapes) == expected
    # 1.45 is nearer to 1 by difference, to 2.05 by factor.
    assert nearest_shape((145, 100), ((100, 100), (205, 100))) == (205, 100)
    assert nearest_shape((100, 145), ((100, 100), (100, 205))) == (100, 205)


# --- picture files ------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    """Two classes of squares, wide and tall pictures, each of another noise; train and test apart."""
    sizes = {"a": (70, 70), "b": (48, 88), "c": (120, 60), "d": (30, 300), "e": (64, 64)}
    return tmp_path, {
        (split, name, label): write(tmp_path / split / name / f"{label}.png", *size)
        for split in ("train", "test")
        for name in ("cat", "dog")
        for label, size in sizes.items()
    }


def test_each_picture_is_in_the_bucket_of_its_proportions_scaled_to_cover_and_cropped(mixed):
    root, arrays = mixed
    sets = buckets_of(root, "test")
    shapes = bucket_shapes(64, 8, 2.0)
    expected = {}
    for name in ("cat", "dog"):
        for label in "abcde":
            array = arrays["test", name, label]
            height, width = nearest_shape(array.shape[:2], shapes)
            picture = ImageOps.fit(Image.fromarray(array), (width, height), Image.Resampling.BILINEAR)
            expected.setdefault((height, width), []).append((name, np.asarray(picture)))
    assert [part.images.shape[1:3] for part in sets] == sorted(expected) == [(48, 88), (64, 64), (88, 48)]
    for part in sets:
        names, images = zip(*expected[part.images.shape[1:3]], strict=True)
        np.testing.assert_array_equal(part.images, np.stack(images))
        assert [part.class_names[label] for label in part.labels] == list(names)
        assert (part.class_names, part.split) == (("cat", "dog"), "test") and part.images.dtype == np.uint8
    assert [part.preparation["resize"]["largest_crop"] for part in sets] == [0.817, 0.0, 0.083]
    assert sets[0].preparation["resize"]["to"] == [48, 88]


def test_a_wide_picture_keeps_its_very_centre(tmp_path):
    for index in range(3):
        array = write(tmp_path / f"{index}.png", 64, 128)
    (square,) = buckets_of(tmp_path, buckets=False)
    assert "training images themselves" in square.preparation["split"]
    np.testing.assert_array_equal(square.images[2], array[:, 32:96])
    assert (
        square.preparation["resize"]["largest_crop"] == 0.5
        and "centre crop" in square.preparation["resize"]["by"]
    )


def test_a_picture_that_lies_on_its_side_is_turned_first(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    array = write(tmp_path / "1.png", 48, 88, exif=exif)
    (tall,) = buckets_of(tmp_path)
    np.testing.assert_array_equal(tall.images[0], np.rot90(array, -1))


def test_large_pictures_are_read_at_full_size(tmp_path):
    array = write(tmp_path / "1.png", 400, 400)
    expected = np.asarray(Image.fromarray(array).resize((304, 304), Image.Resampling.BILINEAR))
    (part,) = buckets_of(tmp_path, size=304, buckets=False)
    np.testing.assert_array_equal(part.images[0], expected)
    name = f"imagefolder:{tmp_path}"
    plain = load_image_set(DataConfig(name=name, resolution=304), "train").images
    np.testing.assert_array_equal(plain[0], expected)
    assert load_image_set(DataConfig(name=name), "train").images.shape == (1, 256, 256, 3)
    assert load_image_set(DataConfig(name=name, resolution=64), "train").images.shape == (1, 256, 256, 3)


def test_a_limit_takes_the_same_images_as_without_buckets_and_captions_follow(mixed):
    root, arrays = mixed
    for split, name, label in arrays:
        (root / split / name / f"{label}.txt").write_text(f"{split} {name} {label}")
    sets = buckets_of(root, limit=5)
    found = [caption for part in sets for caption in part.captions]
    whole = load_image_set(DataConfig(name=f"imagefolder:{root}", limit=5), "train")
    assert (
        sorted(found)
        == sorted(whole.captions)
        == sorted(f"train {text}" for text in ("cat a", "cat b", "cat c", "dog a", "dog b"))
    )
    for part in sets:
        assert part.preparation["limit"] == 5
        for image, label, caption in zip(part.images, part.labels, part.captions, strict=True):
            assert part.class_names[label] in caption
            array = arrays[tuple(caption.split())]
            shape = image.shape[1::-1]
            np.testing.assert_array_equal(image, ImageOps.fit(Image.fromarray(array), shape, Image.BILINEAR))
    assert sum(map(len, buckets_of(root, limit=50))) == 10
    assert all("limit" not in part.preparation for part in buckets_of(root, limit=10))


def test_grey_where_it_is_asked_for(mixed):
    root, arrays = mixed
    squares = buckets_of(root, channels=1)[1]
    grey = np.asarray(Image.fromarray(arrays["train", "dog", "e"]).convert("L"))
    np.testing.assert_array_equal(squares.images[-1, ..., 0], grey)


# --- arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist-mini", "synthdigits", "digits"])
def test_square_arrays_are_one_bucket_the_same_as_prepared(name):
    settings = {"name": name, "limit": 20, "synthdigits": {"count_train": 30, "count_test": 30}}
    expected = prepare(load_image_set(DataConfig(**settings), "test"), 64, 3, None)
    for buckets in (False, True):
        (part,) = load_buckets(DataConfig(**settings, buckets=buckets), "test", 64, 3, 8)
        assert part.images.shape == (20, 64, 64, 3) and part.images.std() > 10
        assert part.content_hash == expected.content_hash and part.preparation["limit"] == 20


def test_wide_arrays_keep_their_proportions_in_a_bucket_alone(tmp_path):
    images = RNG.integers(0, 256, (5, 24, 48, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.zeros(5, int), split=np.zeros(5, int))
    config = {"name": f"npz:{tmp_path}/x.npz", "bucket_multiple": 8}
    (part,) = load_buckets(DataConfig(**config, buckets=True), "train", 64, 1, 8)
    assert part.images.shape == (5, 48, 88, 1) and part.preparation["resize"]["largest_crop"] == 0.083
    grey = Image.fromarray(images[3]).convert("L")
    expected = np.asarray(ImageOps.fit(grey, (88, 48), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(part.images[3, ..., 0], expected)
    (square,) = load_buckets(DataConfig(**config), "train", 64, 3, 8)
    assert square.images.shape == (5, 64, 64, 3) and "largest_crop" not in square.preparation["resize"]


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "size", "multiple", "words"),
    [
        ({}, 60, 8, "got 60; for this base it must be a multiple of 8: take 64"),
        ({"buckets": True}, 96, 8, "bucket_multiple=64, it must be a multiple of 64: take 128"),
        ({"buckets": True}, 32, 8, "multiple of 64: take 64"),
        ({"buckets": True, "bucket_multiple": 24}, 64, 16, "multiple of 48: take 48"),
        ({}, 0, 8, "multiple of 8: take 8"),
        ({"class_map": {0: 0}}, 64, 8, "class_map is set"),
    ],
)
def test_sizes_that_do_not_fit(settings, size, multiple, words):
    with pytest.raises(ConfigError, match=words):
        load_buckets(DataConfig(**settings), "train", size, 3, multiple)


def test_unknown_split(tmp_path):
    with pytest.raises(ConfigError, match="'valid'"):
        buckets_of(tmp_path, "valid")
