import numpy as np
import pytest

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.data.preparation import prepare
from superlora_diffusion.data.records import make_image_set
from superlora_diffusion.errors import ConfigError, DataError

LUMA = np.array([0.299, 0.587, 0.114])
DIGITS = tuple("0123456789")


def record(shape, names=("cat", "dog", "cow")):
    rng = np.random.default_rng(sum(shape))
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    return make_image_set(
        images, np.arange(len(images)) % len(names), names, name="pets", split="test", source="x"
    )


def slow_resize(line, size):
    """One line by the definition: each new pixel is the mean of the old ones under a triangle (never narrower
    than one old pixel), weighted by the triangle's height at their centres. (n,) -> (size,)"""
    ratio = len(line) / size
    width = max(ratio, 1.0)
    result = []
    for target in range(size):
        centre = (target + 0.5) * ratio
        weights = [max(0.0, 1 - abs(source + 0.5 - centre) / width) for source in range(len(line))]
        result.append(sum(w * value for w, value in zip(weights, line, strict=True)) / sum(weights))
    return np.array(result)


@pytest.mark.parametrize("shape", [(4, 28, 28, 1), (4, 21, 13, 3), (4, 8, 8, 1), (4, 5, 40, 3)])
def test_resizing_against_the_definition(shape):
    given = record(shape)
    result = prepare(given, 16, shape[-1], None)
    rows = np.apply_along_axis(slow_resize, 2, given.images.astype(float), 16)
    expected = np.apply_along_axis(slow_resize, 1, rows, 16)
    assert result.images.shape == (4, 16, 16, shape[-1]) and result.images.dtype == np.uint8
    assert np.abs(result.images - expected).max() <= 1.01  # bytes between the two passes
    done = result.preparation["resize"]
    assert (done["from"], done["to"]) == (list(shape[1:3]), [16, 16]) and "antialiased" in done["by"]


def test_grey_to_rgb_repeats_and_back_again_is_the_same():
    given = record((3, 16, 16, 1))
    colour = prepare(given, 16, 3, None)
    for channel in range(3):
        np.testing.assert_array_equal(colour.images[..., channel], given.images[..., 0])
    np.testing.assert_array_equal(prepare(colour, 16, 1, None).images, given.images)
    assert "repeated" in colour.preparation["channels"]


def test_rgb_to_grey_is_luma():
    given = record((3, 16, 16, 3))
    grey = prepare(given, 16, 1, None)
    assert grey.images.shape == (3, 16, 16, 1)
    assert np.abs(grey.images[..., 0] - given.images @ LUMA).max() <= 0.51
    assert "luma" in grey.preparation["channels"]


def test_both_at_once():
    given = record((3, 20, 20, 3))
    both = prepare(given, 16, 1, None).images
    apart = prepare(prepare(given, 20, 1, None), 16, 1, None).images
    np.testing.assert_array_equal(both, apart)


def test_what_fits_is_left_alone_and_nothing_is_recorded():
    given = record((3, 16, 16, 3))
    result = prepare(given, 16, 3, 3)
    assert result.content_hash == given.content_hash and result.preparation == {}
    assert (result.name, result.split, result.class_names) == ("pets", "test", given.class_names)


def test_preparation_adds_to_what_was_done_before():
    limited = load_image_set(DataConfig(name="digits", limit=20), "test")
    assert set(prepare(limited, 16, 3, 10).preparation) == {"values", "limit", "resize", "channels"}


def test_hash_is_of_the_prepared_images():
    given = record((3, 20, 20, 3))
    assert len({prepare(given, size, 3, None).content_hash for size in (16, 20)}) == 2


@pytest.mark.parametrize("classes", [2, 10])
def test_more_or_fewer_classes_need_a_map_and_the_message_shows_one(classes):
    with pytest.raises(DataError, match=f"the base has {classes}") as caught:
        prepare(record((3, 16, 16, 3)), 16, 3, classes)
    message = str(caught.value)
    assert "pets: has 3 classes (cat, dog, cow)" in message and "data.class_map={cat: 0, dog: 1" in message


def test_as_many_but_other_classes_need_a_map():
    digits = record((10, 16, 16, 1), DIGITS)
    assert prepare(digits, 16, 1, 10, base_class_names=DIGITS).class_names == DIGITS
    garments = record((10, 16, 16, 1), tuple("abcdefghij"))
    with pytest.raises(DataError, match="0, 1, 2"):
        prepare(garments, 16, 1, 10, base_class_names=DIGITS)
    mapped = prepare(
        garments, 16, 1, 10, dict(zip("abcdefghij", range(10), strict=True)), base_class_names=DIGITS
    )
    assert mapped.class_names == DIGITS


def test_map_by_name_and_number_several_to_one():
    given = record((6, 16, 16, 3))  # labels 0 1 2 0 1 2
    mapped = prepare(given, 16, 3, 4, {"cat": 3, 1: 1, "2": 3})
    assert mapped.labels.tolist() == [3, 1, 3, 3, 1, 3]
    assert mapped.class_names == ("0", "dog", "2", "cat/cow")
    assert mapped.preparation["class_map"] == {"cat": 3, "dog": 1, "cow": 3}
    np.testing.assert_array_equal(mapped.images, given.images)


def test_where_classes_are_called_by_numbers_a_number_is_a_name():
    given = record((3, 16, 16, 3), ("1", "2", "3"))
    assert prepare(given, 16, 3, 10, {1: 1, "2": 2, 3: 3}).labels.tolist() == [1, 2, 3]
    with pytest.raises(ConfigError, match="0 is no class of the data"):
        prepare(given, 16, 3, 10, {0: 1, 1: 1, 2: 2, 3: 3})


@pytest.mark.parametrize(
    ("class_map", "words"),
    [
        ({"cat": 0, "dog": 1}, "no base class is given for cow"),
        ({}, "no base class is given for cat, dog, cow"),
        ({"cat": 0, "dgo": 1, "cow": 2}, r"'dgo' is no class .*Did you mean 'dog'\?"),
        ({"cat": 0, "dog": 1, "cow": 10}, "'cow' goes to 10, the base has the classes 0 to 9"),
        ({"cat": 0, 0: 1, "dog": 1, "cow": 2}, "class 'cat' goes to both 0 and 1"),
        ({"cat": 0, "dog": 1, 3: 2}, "3 is no class"),
        ({"cat": 0, "dog": 1, -1: 2}, "-1 is no class"),
    ],
)
def test_a_wrong_map_is_refused(class_map, words):
    with pytest.raises(ConfigError, match=words):
        prepare(record((3, 16, 16, 3)), 16, 3, 10, class_map)


def test_an_unconditional_base_takes_any_classes_but_no_map():
    assert prepare(record((3, 16, 16, 3)), 16, 3, None).class_names == ("cat", "dog", "cow")
    with pytest.raises(ConfigError, match="unconditional"):
        prepare(record((3, 16, 16, 3)), 16, 3, None, {"cat": 0})


def test_impossible_bases_are_refused():
    for size, channels in ((0, 3), (16, 2)):
        with pytest.raises(ConfigError, match="1 or 3 channels"):
            prepare(record((3, 16, 16, 3)), size, channels, None)
