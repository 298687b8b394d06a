import numpy as np
import pytest

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import LOADERS, accepted_names, load_image_set, take_evenly
from superlora_diffusion.data.records import content_hash, make_image_set
from superlora_diffusion.errors import ConfigError


def test_every_promised_name_is_there():
    promised = [
        "mnist-mini",
        "synthdigits",
        "digits",
        "svhn",
        "mnist",
        "usps",
        "fashionmnist",
        "cifar10",
        "cifar100",
    ]
    assert sorted(LOADERS) == sorted(promised)
    assert accepted_names()[-2:] == ("imagefolder:PATH", "npz:PATH")


def test_unknown_split():
    with pytest.raises(ConfigError, match="'valid', expected one of train, test"):
        load_image_set(DataConfig(), "valid")


@pytest.mark.parametrize("limit", [1, 10, 37, 1999])
def test_limit_takes_the_first_of_each_class_evenly(limit):
    whole = load_image_set(DataConfig(), "test")
    cut = load_image_set(DataConfig(limit=limit), "test")
    counts = np.bincount(cut.labels, minlength=10)
    assert counts.sum() == limit and counts.max() - counts.min() <= 1
    for label in range(10):
        expected = whole.images[whole.labels == label][: counts[label]]
        np.testing.assert_array_equal(cut.images[cut.labels == label], expected)
    assert cut.preparation == {"limit": limit} and cut.class_names == whole.class_names
    assert cut.content_hash == content_hash(cut.images, cut.labels, cut.class_names) != whole.content_hash


def test_limit_above_the_count_changes_nothing():
    assert (
        load_image_set(DataConfig(limit=2000), "test").content_hash
        == load_image_set(DataConfig(), "test").content_hash
    )


def test_a_rare_class_gives_all_it_has_and_order_is_kept():
    labels = np.array([0, 0, 0, 1, 0, 0, 1, 0, 2])
    images = np.arange(9, dtype=np.uint8).reshape(9, 1, 1)
    record = make_image_set(images, labels, "abc", name="x", split="train", source="x")
    cut = take_evenly(record, 6)
    assert cut.images.ravel().tolist() == [0, 1, 2, 3, 6, 8] and cut.labels.tolist() == [0, 0, 0, 1, 1, 2]
