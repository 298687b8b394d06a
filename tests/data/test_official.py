"""torchvision's real readers, through our loader, on small files in the official formats.

The checksums torchvision compares with are those of the official files, so each test puts those of its own
files in their place; everything else is the real code.
"""

import shutil

import numpy as np
import pytest
import torchvision.datasets as tv

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.errors import DataError

from . import official_formats as formats

SPLITS = ("train", "test")
NAMES = ("mnist", "fashionmnist", "usps", "svhn", "cifar10", "cifar100")


def arrays(name, split, count=30):
    """Random images and labels that hold every class; other ones for each split."""
    classes = 100 if name == "cifar100" else 10
    count = max(count, classes)
    shape = {"mnist": (28, 28), "fashionmnist": (28, 28), "usps": (16, 16)}.get(name, (32, 32, 3))
    rng = np.random.default_rng([NAMES.index(name), SPLITS.index(split)])
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.permutation(np.arange(count) % classes)


def write(name, root, monkeypatch):
    """Both splits of a set under ``root`` as downloaded and unpacked."""
    parts = {split: arrays(name, split) for split in SPLITS}
    if name in ("mnist", "fashionmnist"):
        folder = root / {"mnist": "MNIST", "fashionmnist": "FashionMNIST"}[name] / "raw"
        for split, part in parts.items():
            formats.write_idx(folder, split, *part, compress=False)
    elif name == "usps":
        for split, part in parts.items():
            formats.write_usps(root, split, *part)
    elif name == "svhn":
        for split, part in parts.items():
            formats.write_svhn(root, split, *part)
        sums = {s: ["unused", f"{s}_32x32.mat", formats.md5(root / f"{s}_32x32.mat")] for s in SPLITS}
        monkeypatch.setattr(tv.SVHN, "split_list", sums)
    else:
        write_cifar(name, root, parts, monkeypatch)
    return parts


def write_cifar(name, root, parts, monkeypatch):
    kind = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}[name]
    folder = root / kind.base_folder
    if name == "cifar10":
        images, labels = parts["train"]
        batches = {
            f"data_batch_{i + 1}": (images[i * 6 : i * 6 + 6], {"labels": labels[i * 6 : i * 6 + 6]})
            for i in range(5)
        }
        batches["test_batch"] = (parts["test"][0], {"labels": parts["test"][1]})
        meta = {"batches.meta": {"label_names": formats.CIFAR10_NAMES}}
    else:
        batches = {
            split: (images, {"coarse_labels": labels // 5, "fine_labels": labels})
            for split, (images, labels) in parts.items()
        }
        meta = {
            "meta": {"fine_label_names": [f"fine{i}" for i in range(100)], "coarse_label_names": ["x"] * 20}
        }
    formats.write_cifar(folder, batches, meta)
    for attribute in ("train_list", "test_list"):
        sums = [[file, formats.md5(folder / file)] for file, _ in getattr(kind, attribute)]
        monkeypatch.setattr(kind, attribute, sums)
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": formats.md5(folder / kind.meta["filename"])})


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NAMES)
def test_every_set_is_read_as_it_was_written(name, split, tmp_path, monkeypatch):
    images, labels = write(name, tmp_path, monkeypatch)[split]
    record = load_image_set(DataConfig(name=name, root=str(tmp_path)), split)
    np.testing.assert_array_equal(record.labels, labels)
    expected = images if images.ndim == 4 else images[..., None]
    np.testing.assert_array_equal(record.images, expected)
    assert (record.name, record.split) == (name, split)


def test_class_names(tmp_path, monkeypatch):
    for name, names in {
        "mnist": tuple("0123456789"),
        "usps": tuple("0123456789"),
        "svhn": tuple("0123456789"),
        "fashionmnist": tuple(tv.FashionMNIST.classes),
        "cifar10": tuple(formats.CIFAR10_NAMES),
        "cifar100": tuple(f"fine{i}" for i in range(100)),
    }.items():
        write(name, tmp_path, monkeypatch)
        assert load_image_set(DataConfig(name=name, root=str(tmp_path)), "test").class_names == names


def test_the_default_root_is_in_the_cache(own_cache, monkeypatch):
    write("usps", own_cache / "torchvision", monkeypatch)
    assert len(load_image_set(DataConfig(name="usps"), "train")) == 30


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_named_with_what_to_do(name, tmp_path):
    with pytest.raises(DataError, match=r"data\.download=true") as caught:
        load_image_set(DataConfig(name=name, root=str(tmp_path / "nowhere")), "train")
    assert str(tmp_path / "nowhere") in str(caught.value) and "data.root" in str(caught.value)
    assert not (tmp_path / "nowhere").exists()


def test_one_missing_file_is_the_one_named(tmp_path, monkeypatch):
    write("cifar10", tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(DataError, match="data_batch_4: not found"):
        load_image_set(DataConfig(name="cifar10", root=str(tmp_path)), "train")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("usps", "usps.bz2"),
        ("svhn", "train_32x32.mat"),
        ("cifar10", "cifar-10-batches-py/data_batch_2"),
        ("cifar100", "cifar-100-python/train"),
    ],
)
def test_a_damaged_file_is_named(name, file, tmp_path, monkeypatch):
    write(name, tmp_path, monkeypatch)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError) as caught:
        load_image_set(DataConfig(name=name, root=str(tmp_path)), "train")
    assert str(path) in str(caught.value)


def test_images_and_labels_that_do_not_match_are_refused(tmp_path, monkeypatch):
    write("mnist", tmp_path, monkeypatch)
    images, labels = arrays("mnist", "train")
    formats.write_idx(tmp_path / "MNIST" / "raw", "train", images[:-1], labels, compress=False)
    labels_file = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    with pytest.raises(DataError, match=r"\(30,\), expected \(29,\)") as caught:
        load_image_set(DataConfig(name="mnist", root=str(tmp_path)), "train")
    assert str(labels_file.parent) in str(caught.value)


@pytest.mark.parametrize("kind", [tv.MNIST, tv.FashionMNIST])
def test_download_takes_the_published_gz_files(kind, tmp_path, monkeypatch):
    """The archives already lie there, so torchvision checks and unpacks them without any network."""
    name = kind.__name__.lower()
    folder = tmp_path / kind.__name__ / "raw"
    for split in SPLITS:
        formats.write_idx(folder, split, *arrays(name, split), compress=True)
    monkeypatch.setattr(kind, "resources", [(file, formats.md5(folder / file)) for file, _ in kind.resources])
    config = DataConfig(name=name, root=str(tmp_path), download=True)
    for split in SPLITS:
        np.testing.assert_array_equal(load_image_set(config, split).images[..., 0], arrays(name, split)[0])


def test_download_takes_the_published_tar(tmp_path, monkeypatch):
    write("cifar10", tmp_path, monkeypatch)
    folder, archive = tmp_path / tv.CIFAR10.base_folder, tmp_path / tv.CIFAR10.filename
    formats.pack(folder, archive)
    shutil.rmtree(folder)
    monkeypatch.setattr(tv.CIFAR10, "tgz_md5", formats.md5(archive))
    record = load_image_set(DataConfig(name="cifar10", root=str(tmp_path), download=True), "test")
    np.testing.assert_array_equal(record.images, arrays("cifar10", "test")[0])


def test_a_failing_download_says_why(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(DataError, match=r"usps could not be downloaded.*no route to host"):
        load_image_set(DataConfig(name="usps", root=str(tmp_path), download=True), "train")
