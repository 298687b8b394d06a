import dataclasses
import hashlib

import numpy as np
import pytest

from superlora_diffusion.data.records import make_image_set
from superlora_diffusion.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def make(images=IMAGES, labels=LABELS, names=("a", "b", "c"), **changes):
    return make_image_set(
        images, labels, names, **{"name": "x", "split": "train", "source": "file.npz"} | changes
    )


def test_record_holds_what_was_given():
    record = make(labels=LABELS.astype(np.uint8))
    np.testing.assert_array_equal(record.images, IMAGES)
    np.testing.assert_array_equal(record.labels, LABELS)
    assert (record.labels.dtype, record.class_names, record.split) == (np.int64, ("a", "b", "c"), "train")
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.name = "y"


def test_grey_without_a_channel_axis_gets_one():
    assert make(images=IMAGES[..., 0]).images.shape == (6, 5, 4, 1)


def test_hash_depends_on_all_the_content_and_nothing_else():
    changed = IMAGES.copy()
    changed[-1, -1, -1, -1] ^= 1
    hashes = [
        make().content_hash,
        make(images=changed).content_hash,
        make(images=IMAGES.reshape(6, 4, 5, 3)).content_hash,
        make(labels=LABELS[::-1]).content_hash,
        make(names=("a", "b", "d")).content_hash,
    ]
    assert len(set(hashes)) == 5 and all(len(text) == 64 for text in hashes)
    assert make(images=np.asfortranarray(IMAGES), name="y", source="z").content_hash == hashes[0]


def test_captions_are_kept_and_count_for_the_hash():
    texts = [f"picture {i}" for i in range(6)]
    record = make(captions=texts)
    assert record.captions == tuple(texts) and make().captions is None
    cut_elsewhere = make(captions=["picture 0picture 1", "", *texts[2:]])
    hashes = {make().content_hash, record.content_hash, make(captions=texts[::-1]).content_hash}
    assert len(hashes | {cut_elsewhere.content_hash}) == 4


def test_the_hash_without_captions_is_what_it_always_was():
    """Old runs go on with their data: the shape, the class names, the bytes, the labels, and nothing else."""
    expected = hashlib.sha256(repr((IMAGES.shape, ("a", "b", "c"))).encode())
    expected.update(IMAGES.tobytes())
    expected.update(LABELS.astype("<i8").tobytes())
    assert make().content_hash == expected.hexdigest()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": IMAGES / 255}, "float64, expected uint8"),
        ({"images": IMAGES[..., :2]}, "shape"),
        ({"images": IMAGES[0, 0]}, "shape"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no images"),
        ({"labels": LABELS[:5]}, r"shape \(5,\), expected \(6,\)"),
        ({"labels": LABELS.astype(float)}, "float64"),
        ({"labels": np.array([0, 1, 2, 3, 1, 2])}, "label 3 of image 3 is out of range, expected 0 to 2"),
        ({"labels": np.array([0, 1, 2, 0, -1, 2])}, "label -1 of image 4"),
        ({"captions": ["a"] * 5}, "captions: got 5, expected 6"),
        ({"captions": "abcdef"}, "captions: got one text, expected 6"),
        ({"captions": ["a", "b", None, "d", "e", "f"]}, "caption of image 2 is None"),
        ({"labels": np.array([0, 1, 0, 0, 1, 0])}, r"no image of 'c' \(class 2\)"),
    ],
)
def test_faults_name_the_file_and_what_came(changes, words):
    with pytest.raises(DataError, match=words) as caught:
        make(**changes)
    assert "file.npz" in str(caught.value)
