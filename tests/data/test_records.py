import dataclasses

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
        ({"labels": np.array([0, 1, 0, 0, 1, 0])}, r"no image of 'c' \(class 2\)"),
    ],
)
def test_faults_name_the_file_and_what_came(changes, words):
    with pytest.raises(DataError, match=words) as caught:
        make(**changes)
    assert "file.npz" in str(caught.value)
