"""Pictures: exact where they fit, smaller where they must be, once a data set, and told where they are missing."""

import base64
import io

import numpy as np
from PIL import Image

from superlora_diffusion.report import pictures
from superlora_diffusion.report.collect import collect
from superlora_diffusion.report.pictures import encode, first_of_each, load_grids, load_real_images

from .material import write_data, write_run


def decode(uri):
    assert uri.startswith("data:image/webp;base64,")
    data = base64.b64decode(uri.partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        return len(data), np.asarray(image.convert("RGB"))


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_what_fits_is_exact_and_what_does_not_is_cut_to_the_budget():
    small, large = noise(20, 30).repeat(4, 0).repeat(4, 1), noise(400, 600)
    _, pixels = decode(encode(Image.fromarray(small), 40_000))
    assert np.array_equal(pixels, small)
    size, pixels = decode(encode(Image.fromarray(large), 40_000))
    assert size <= 40_000 and pixels.shape[1] >= 150
    assert decode(encode(Image.fromarray(noise(10, 1440).repeat(4, 0)), 10**6))[1].shape == (20, 720, 3)


def test_all_grids_together_keep_to_the_pages_budget(tmp_path, monkeypatch):
    data = write_data(tmp_path / "d.npz")
    for name in "abcd":
        write_run(tmp_path / name, data)
    write_run(tmp_path / "e", data, grid=False)
    write_run(tmp_path / "f", data)
    (tmp_path / "f" / "samples" / "step-000500.png").write_bytes(b"no picture")
    monkeypatch.setattr(pictures, "PAGE_BUDGET", 6_000)
    grids = {path.name: picture for path, picture in load_grids(collect([tmp_path]).runs).items()}
    assert sum(decode(grids[name].uri)[0] for name in "abcd") <= 6_000
    assert "superlora-diff sample" in grids["e"].problem and "cannot be read" in grids["f"].problem
    assert not grids["e"].uri and not grids["f"].uri


def test_real_images_are_the_datas_once_a_data_set(tmp_path):
    data, other = write_data(tmp_path / "d.npz"), tmp_path / "gone.npz"
    for name, path in {"a": data, "b": data, "c": other}.items():
        write_run(tmp_path / name, path)
    (tmp_path / "b" / "data.json").write_text('{"test": {"preparation": {"resize": {"to": [4, 4]}}}}')
    keys, real = load_real_images(collect([tmp_path]).runs)
    keys = {path.name: key for path, key in keys.items()}
    assert len(real) == 3 and "cannot be read here" in real[keys["c"]].problem
    _, pixels = decode(real[keys["a"]].uri)
    with np.load(data) as stored:
        test = stored["split"] == 1
        first = stored["images"][test][stored["labels"][test] == 1][
            0
        ]  # the first of class 1: column 1, row 0
    zoomed = first.repeat(6, 0).repeat(6, 1)
    assert np.array_equal(pixels[18 : 18 + 48, 2 + 50 : 2 + 50 + 48], zoomed)
    assert len(np.unique(decode(real[keys["b"]].uri)[1][18:66, 2:50].reshape(-1, 3), axis=0)) <= 16


def test_first_of_each_class():
    labels = np.array([2, 0, 0, 1, 0, 2])
    assert first_of_each(labels, 4, 3).reshape(3, 4).tolist() == [[1, 3, 0, 0], [2, 3, 5, 0], [4, 3, 0, 0]]
