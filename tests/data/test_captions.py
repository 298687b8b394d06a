import numpy as np
import pytest

from superlora_diffusion.data.captions import captions_of
from superlora_diffusion.data.loading import take_evenly
from superlora_diffusion.data.preparation import prepare
from superlora_diffusion.data.records import content_hash, make_image_set
from superlora_diffusion.errors import DataError

TEMPLATE = "a photo of a {}"


def record(names=("cat", "dog"), captions=None):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    labels = np.array([0, 0, 1, 0, 1, 0]) if len(names) > 1 else np.zeros(6, dtype=np.int64)
    return make_image_set(images, labels, names, name="pets", split="train", source="x", captions=captions)


def test_own_captions_win_over_the_template():
    texts = tuple("abcdef")
    assert (
        captions_of(record(captions=texts), TEMPLATE) == texts == captions_of(record(("image",), texts), None)
    )


def test_a_template_is_filled_with_each_images_class():
    cat, dog = "a photo of a cat", "a photo of a dog"
    assert captions_of(record(), TEMPLATE) == (cat, cat, dog, cat, dog, cat)
    assert captions_of(record(("{}", "x")), "[{}]")[:3] == ("[{}]", "[{}]", "[x]")


def test_without_a_template_the_names_themselves():
    assert captions_of(record(), None) == ("cat", "cat", "dog", "cat", "dog", "cat")
    assert captions_of(record(("teapot",)), None) == ("teapot",) * 6


@pytest.mark.parametrize("name", ["image", "0"])
def test_a_nameless_class_says_how_to_give_captions(name):
    with pytest.raises(DataError) as caught:
        captions_of(record((name,)), None)
    assert all(
        way in str(caught.value) for way in ("pets: ", "metadata.jsonl", "1.txt", "caption_template", "three")
    )
    assert captions_of(record((name,)), "one {}") == (f"one {name}",) * 6


def test_cutting_and_preparing_keep_each_images_caption():
    whole = record(captions=tuple("abcdef"))
    cut = take_evenly(whole, 3)  # images 0, 1 and 2: two cats, one dog
    assert cut.captions == ("a", "b", "c") and take_evenly(whole, 2).captions == ("a", "c")
    assert cut.content_hash == content_hash(cut.images, cut.labels, cut.class_names, cut.captions)
    ready = prepare(whole, 16, 1, 2, {"cat": 1, "dog": 0})
    assert ready.captions == tuple("abcdef") and ready.labels.tolist() == [1, 1, 0, 1, 0, 1]
