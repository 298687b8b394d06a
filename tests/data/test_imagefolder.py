import numpy as np
import pytest
from PIL import Image

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.errors import DataError

RNG = np.random.default_rng(0)


def load(root, split="train"):
    return load_image_set(DataConfig(name=f"imagefolder:{root}"), split)


def picture(path, size=(12, 12), mode="RGB", value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    array = RNG.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    if value is not None:
        array[...] = value
    Image.fromarray(array).save(path)
    return array


def folder_of_three(root, count=10, **options):
    return {
        (name, i): picture(root / name / f"{i}.png", **options)
        for name in ("2", "10", "1")
        for i in range(count)
    }


def test_a_fifth_of_each_class_is_held_out_and_nothing_is_lost(tmp_path):
    written = folder_of_three(tmp_path)
    train, test = load(tmp_path), load(tmp_path, "test")
    assert train.class_names == test.class_names == ("1", "2", "10")  # by value, not as text
    assert np.bincount(train.labels).tolist() == [8] * 3 and np.bincount(test.labels).tolist() == [2] * 3
    found = {
        (part.class_names[label], image.tobytes())
        for part in (train, test)
        for image, label in zip(part.images, part.labels, strict=True)
    }
    assert found == {(name, array.tobytes()) for (name, _), array in written.items()}


def test_the_split_goes_by_names_alone(tmp_path):
    for root in (tmp_path / "here", tmp_path / "moved" / "there"):
        for name in ("cat", "dog"):
            for i in range(20):
                picture(root / name / f"{i}.png", value=i * 10)
    first, second = load(tmp_path / "here", "test"), load(tmp_path / "moved" / "there", "test")
    assert first.content_hash == second.content_hash and first.images.max() > 0


def test_train_and_test_folders_are_taken_as_they_are(tmp_path):
    for split, value in (("train", 10), ("test", 200)):
        for name in ("cat", "dog"):
            picture(tmp_path / split / name / "only.png", value=value)
    assert load(tmp_path).images.max() == 10 and load(tmp_path, "test").images.min() == 200
    assert load(tmp_path).class_names == ("cat", "dog")


def test_different_sizes_become_squares_of_the_smallest_side(tmp_path):
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = 255  # the centre crop is white, the sides are black
    for index, array in enumerate(
        (wide, np.full((30, 16, 3), 77, np.uint8), np.full((40, 40, 3), 99, np.uint8))
    ):
        (tmp_path / "train" / str(index)).mkdir(parents=True)
        (tmp_path / "test" / str(index)).mkdir(parents=True)
        Image.fromarray(array).save(tmp_path / "train" / str(index) / "x.png")
        Image.fromarray(array).save(tmp_path / "test" / str(index) / "x.png")
    record = load(tmp_path)
    assert record.images.shape == (3, 16, 16, 3) and record.preparation["folder"]["side"] == 16
    assert record.images[0].mean() > 240 and (record.images[1] == 77).all() and (record.images[2] == 99).all()


def test_large_images_are_brought_to_256(tmp_path):
    for name in "ab":
        for i in range(2):
            picture(tmp_path / name / f"{i}.jpg", size=(400, 300))
    assert load(tmp_path).images.shape == (2, 256, 256, 3)


def test_grey_stays_grey_and_one_colour_image_makes_all_rgb(tmp_path):
    folder_of_three(tmp_path / "grey", mode="L")
    assert load(tmp_path / "grey").images.shape[-1] == 1
    picture(tmp_path / "grey" / "1" / "colour.png")
    assert load(tmp_path / "grey").images.shape[-1] == 3


def test_transparent_is_white(tmp_path):
    folder_of_three(tmp_path, mode="RGBA", value=0)
    record = load(tmp_path)
    assert record.images.shape[-1] == 3 and record.images.min() == 255


def test_exif_orientation_is_honoured(tmp_path):
    array = np.zeros((16, 16, 3), np.uint8)
    array[:8] = 255  # top half white; orientation 3 means: shown upside down
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.fromarray(array).save(tmp_path / split / "a" / "x.png", exif=exif)
    image = load(tmp_path).images[0]
    assert image[:8].max() == 0 and image[8:].min() == 255


@pytest.mark.parametrize("damage", [b"", b"not a picture", "half"])
def test_a_broken_image_is_named(damage, tmp_path):
    folder_of_three(tmp_path, size=(64, 64))
    for split in ("train", "test"):
        broken = tmp_path / "2" / "broken.png"
        picture(broken, size=(64, 64))
        broken.write_bytes(broken.read_bytes()[:3000] if damage == "half" else damage)
        for number in range(4):  # whichever split it falls into, one of the two loads meets it
            broken.with_name(f"broken{number}.png").write_bytes(broken.read_bytes())
        with pytest.raises(DataError, match=r"broken\d?\.png: cannot be read as an image") as caught:
            load(tmp_path, split)
        assert str(tmp_path / "2") in str(caught.value)


def test_deep_images_are_refused_not_clipped(tmp_path):
    folder_of_three(tmp_path)
    Image.fromarray(np.full((12, 12), 40000, np.uint16)).save(tmp_path / "1" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: has the mode I;16, expected 8 bits"):
        load(tmp_path)


def test_an_empty_class_is_named(tmp_path):
    folder_of_three(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="empty: the class has no images"):
        load(tmp_path)


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    folder_of_three(tmp_path)
    picture(tmp_path / "7" / "lonely.png")
    with pytest.raises(DataError, match="7: one image only"):
        load(tmp_path)


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match="absent: no such folder"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no class folders"):
        load(tmp_path)
    picture(tmp_path / "train" / "a" / "x.png")
    with pytest.raises(DataError, match="train alone of train and test"):
        load(tmp_path)
    picture(tmp_path / "test" / "b" / "x.png")
    with pytest.raises(DataError, match=r"differ: a, b"):
        load(tmp_path)
