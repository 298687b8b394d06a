"""Writers of the official files of the torchvision sets, small: what the readers are tested on.

Each takes the folder, the images (N, H, W[, 3]) uint8 and labels, and writes what the set's authors publish.
"""

import bz2
import gzip
import hashlib
import pickle
import struct
import tarfile

import numpy as np

CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_idx(folder, split, images, labels, compress):
    """MNIST's own format: big-endian magic number, sizes, bytes; two files a split."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = {"train": "train", "test": "t10k"}[split]
    contents = {
        f"{prefix}-images-idx3-ubyte": struct.pack(">4i", 2051, *images.shape) + images.tobytes(),
        f"{prefix}-labels-idx1-ubyte": struct.pack(">2i", 2049, len(labels))
        + labels.astype(np.uint8).tobytes(),
    }
    for name, content in contents.items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def write_usps(folder, split, images, labels):
    """libsvm text, bzip2: labels 1..10, `index:value` with the values from -1 to 1."""
    lines = []
    for image, label in zip(images, labels, strict=True):
        values = image.reshape(-1) / 255 * 2 - 1 + 1e-6
        lines.append(f"{label + 1} " + " ".join(f"{i}:{v:.6f}" for i, v in enumerate(values, 1)) + " \n")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / {"train": "usps.bz2", "test": "usps.t.bz2"}[split]
    path.write_bytes(bz2.compress("".join(lines).encode()))


def write_svhn(folder, split, images, labels):
    """MATLAB 5: X (32, 32, 3, N) uint8, y (N, 1) uint8 in which the digit 0 is a 10."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    savemat(folder / f"{split}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": y})


def write_cifar(folder, batches, meta):
    """Batches {file: (images, {key: labels})} as Python 2 pickles, and their meta file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in batches.items():
        rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3072)
        entry = {"data": rows, **{key: value.tolist() for key, value in labels.items()}, "batch_label": name}
        (folder / name).write_bytes(python2_pickle(entry))
    for name, content in meta.items():
        (folder / name).write_bytes(python2_pickle(content))


def python2_pickle(value):
    """Protocol 2 as numpy 1 on Python 2 wrote it: old module names, and flags of a dtype as integers."""
    content = pickle.dumps(value, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    return content.replace(b"\x89\x88\x87", b"K\x00K\x01\x87")


def pack(folder, archive):
    """What is downloaded: a tar.gz that holds the folder."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
