import subprocess
import sys
from importlib import resources

import numpy as np

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set


def both(name):
    return [load_image_set(DataConfig(name=name), split) for split in ("train", "test")]


def distinct(images):
    return {image.tobytes() for image in images}


def test_mnist_mini_is_the_balanced_real_set():
    train, test = both("mnist-mini")
    assert train.images.shape == (5000, 28, 28, 1) and test.images.shape == (2000, 28, 28, 1)
    assert (
        np.bincount(train.labels).tolist() == [500] * 10 and np.bincount(test.labels).tolist() == [200] * 10
    )
    assert not distinct(train.images) & distinct(test.images)
    # MNIST as everybody knows it: white on black, 13 % ink, and the training set begins with this 5.
    assert train.images[:, 0].max() == 0 and 0.12 < train.images.mean() / 255 < 0.14
    assert train.labels[:6].tolist() == [5, 0, 4, 1, 9, 2] and test.labels[:6].tolist() == [7, 2, 1, 0, 4, 1]


def test_mnist_mini_comes_with_its_licence():
    notice = (resources.files("superlora_diffusion.data") / "assets" / "NOTICE").read_text()
    assert "Attribution-ShareAlike 3.0" in " ".join(notice.split()) and "LeCun" in notice


def test_digits_are_all_of_scikit_learns_at_full_range():
    from sklearn.datasets import load_digits

    train, test = both("digits")
    bunch = load_digits()
    assert len(train) + len(test) == 1797 and train.images.shape[1:] == (8, 8, 1)
    assert train.images.max() == 255 and train.images.min() == 0
    expected = {
        (np.rint(image / 16 * 255).astype(np.uint8).tobytes(), label)
        for image, label in zip(*bunch_of(bunch), strict=True)
    }
    found = {
        (image.tobytes(), label)
        for part in (train, test)
        for image, label in zip(part.images, part.labels, strict=True)
    }
    assert found == expected


def bunch_of(bunch):
    return bunch.images, bunch.target


def test_digits_split_is_disjoint_stratified_and_the_same_everywhere():
    train, test = both("digits")
    assert not distinct(train.images) & distinct(test.images)
    share = np.bincount(test.labels) / (np.bincount(train.labels) + np.bincount(test.labels))
    assert share.min() > 0.19 and share.max() < 0.22
    code = (
        "import numpy as np; np.random.seed(7); np.random.rand(3)\n"
        "from superlora_diffusion.data.embedded import load_digits; print(load_digits('test').content_hash)"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    golden = "8fdfe6e627fcb706c197d381e777ed7f54421695409872d37107240e6535d8b6"
    assert test.content_hash == fresh == golden
