import numpy as np
import pytest

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.errors import DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 7, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4
SPLIT = (np.arange(40) % 8 < 4).astype(int)


def load(path, split="train"):
    return load_image_set(DataConfig(name=f"npz:{path}"), split)


def save(tmp_path, **arrays):
    np.savez(tmp_path / "mine.npz", **{"images": IMAGES, "labels": LABELS} | arrays)
    return tmp_path / "mine.npz"


def test_given_split_and_names_are_kept(tmp_path):
    path = save(tmp_path, split=SPLIT, class_names=np.array(["a", "b", "c", "d"]))
    for index, split in enumerate(("train", "test")):
        record = load(path, split)
        np.testing.assert_array_equal(record.images, IMAGES[index == SPLIT])
        np.testing.assert_array_equal(record.labels, LABELS[index == SPLIT])
        assert record.class_names == ("a", "b", "c", "d")


def test_without_a_split_a_fifth_of_each_class_is_held_out(tmp_path):
    path = save(tmp_path)
    train, test = load(path), load(path, "test")
    assert np.bincount(train.labels).tolist() == [8] * 4 and np.bincount(test.labels).tolist() == [2] * 4
    together = {image.tobytes() for part in (train, test) for image in part.images}
    assert together == {image.tobytes() for image in IMAGES}
    assert load(path, "test").content_hash == test.content_hash and train.class_names == ("0", "1", "2", "3")


def test_grey_images(tmp_path):
    assert load(save(tmp_path, images=IMAGES[..., 0])).images.shape == (32, 6, 7, 1)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES / 255}, "float64, expected uint8"),
        ({"images": IMAGES[0]}, "labels have the shape"),
        ({"labels": LABELS[:-1]}, r"\(39,\), expected \(40,\)"),
        ({"labels": LABELS * 1.0}, "whole numbers"),
        ({"labels": LABELS - 1}, "label -1 of image 0"),
        ({"labels": np.where(LABELS == 2, 3, LABELS)}, r"no image of '2' \(class 2\)"),
        ({"labels": LABELS.astype(object)}, "plain arrays"),
        ({"class_names": np.array(["a", "b"])}, "label 2 of image 2 is out of range, expected 0 to 1"),
        ({"class_names": np.array(["a", "b", "c", "c"])}, "twice"),
        ({"class_names": np.arange(4)}, "expected a list of strings"),
        ({"class_names": np.array(list("abcde"))}, r"no image of 'e' \(class 4\)"),
        ({"split": SPLIT + 1}, r"\[1, 2\], expected"),
        ({"split": SPLIT[:5]}, "expected"),
        ({"split": np.where(LABELS == 1, 1, 0)}, r"no image of '1' \(class 1\) in the train split"),
    ],
)
def test_every_fault_names_the_file(arrays, words, tmp_path):
    path = save(tmp_path, **arrays)
    with pytest.raises(DataError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_missing_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", pictures=IMAGES, labels=LABELS)
    with pytest.raises(DataError, match=r"x\.npz: holds pictures, labels, images missing"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"nonsense", "half", "npy"])
def test_what_is_no_npz(content, tmp_path):
    path = save(tmp_path)
    if content == "half":
        path.write_bytes(path.read_bytes()[:5000])
    elif content == "npy":
        with path.open("wb") as stream:
            np.save(stream, IMAGES)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"numpy\.savez") as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "absent.npz")


def test_a_label_far_beyond_the_images_is_refused_before_names_are_made(tmp_path):
    path = save(tmp_path, images=np.zeros((3, 4, 4), np.uint8), labels=np.array([0, 1, 2**40]))
    with pytest.raises(DataError, match=r"label 1099511627776 is out of range for 3 images"):
        load(path)
