import json

import numpy as np
import pytest
from PIL import Image

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.errors import DataError


def load(root, split="train", **settings):
    return load_image_set(DataConfig(name=f"imagefolder:{root}", **settings), split)


def pictures(root, *names):
    """Each picture in one grey of its own; -> {grey: name}."""
    greys = {}
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 10 + index, np.uint8)).save(root / name)
        greys[10 + index] = name
    return greys


def seen(record, greys):
    """{name of the picture: its caption} of what was loaded."""
    return {
        greys[int(image[0, 0, 0])]: text for image, text in zip(record.images, record.captions, strict=True)
    }


def jsonl(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def table(names, column="text"):
    return [{"file_name": name, column: f"this is {name}"} for name in names]


FLAT = [f"{index}.png" for index in range(10)]


def both_splits(root, greys, **settings):
    train, test = load(root, **settings), load(root, "test", **settings)
    assert (len(train), len(test)) == (8, 2) and train.class_names == ("image",)
    return seen(train, greys) | seen(test, greys)


# --- the ways to give them ----------------------------------------------------------------------------------


def test_metadata_jsonl_in_any_order(tmp_path):
    greys = pictures(tmp_path, *FLAT)
    jsonl(tmp_path / "metadata.jsonl", table(FLAT[::-1]))
    assert both_splits(tmp_path, greys) == {name: f"this is {name}" for name in FLAT}


def test_metadata_csv_with_commas_and_letters_of_all_kinds(tmp_path):
    greys = pictures(tmp_path, *FLAT)
    lines = [f'{name},"ein großer, ""roter"" Hund {name}"' for name in FLAT]
    (tmp_path / "metadata.csv").write_text("\r\n".join(["file_name,text", *lines]), encoding="utf-8-sig")
    assert both_splits(tmp_path, greys) == {name: f'ein großer, "roter" Hund {name}' for name in FLAT}


def test_text_files_beside(tmp_path):
    greys = pictures(tmp_path, *FLAT)
    for name in FLAT:
        (tmp_path / name).with_suffix(".txt").write_text(f"  this\n is  {name}\n")
    assert both_splits(tmp_path, greys) == {name: f"this is {name}" for name in FLAT}


def test_no_captions_at_all_is_none_and_the_hash_is_of_the_images_alone(tmp_path):
    pictures(tmp_path, *FLAT)
    before = load(tmp_path)
    (tmp_path / "readme.txt").write_text("beside no picture")
    assert before.captions is None and load(tmp_path).content_hash == before.content_hash
    jsonl(tmp_path / "metadata.jsonl", table(FLAT))
    assert load(tmp_path).content_hash != before.content_hash


@pytest.mark.parametrize("place", ["top", "split", "class"])
def test_class_folders_with_metadata_at_any_height(tmp_path, place):
    names = [
        f"{split}/{kind}/{i}.png" for split in ("train", "test") for kind in ("cat", "dog") for i in (1, 2)
    ]
    greys = pictures(tmp_path, *names)
    depth = {"top": 0, "split": 1, "class": 2}[place]
    folders = {"/".join(name.split("/")[:depth]) for name in names}
    for folder in folders:
        inside = [name.removeprefix(folder).lstrip("/") for name in names if name.startswith(folder)]
        rows = [{"file_name": "./" + name, "text": f"{folder}/{name}".lstrip("/")} for name in inside]
        jsonl(tmp_path / folder / "metadata.jsonl", rows)
    for split in ("train", "test"):
        record = load(tmp_path, split)
        assert record.class_names == ("cat", "dog") and record.labels.tolist() == [0, 0, 1, 1]
        assert seen(record, greys) == {name: name for name in names if name.startswith(split)}


def test_flat_train_and_test_folders(tmp_path):
    greys = pictures(tmp_path, "train/1.png", "test/1.png")
    for split in ("train", "test"):
        (tmp_path / split / "1.txt").write_text(f"one to {split}")
    assert seen(load(tmp_path), greys) == {"train/1.png": "one to train"}
    assert seen(load(tmp_path, "test"), greys) == {"test/1.png": "one to test"}
    assert load(tmp_path).preparation.keys() == {"folder"}


@pytest.mark.parametrize(
    ("columns", "asked", "taken"),
    [
        (("prompt", "caption", "text"), None, "text"),
        (("prompt", "caption"), None, "caption"),
        (("prompt",), None, "prompt"),
        (("text", "label"), "label", "label"),
    ],
)
def test_which_column(tmp_path, columns, asked, taken):
    greys = pictures(tmp_path, *FLAT)
    rows = [{"file_name": name, **{column: f"{column} of {name}" for column in columns}} for name in FLAT]
    jsonl(tmp_path / "metadata.jsonl", rows)
    assert both_splits(tmp_path, greys, caption_column=asked) == {name: f"{taken} of {name}" for name in FLAT}


# --- faults -------------------------------------------------------------------------------------------------


def fails(root, words, **settings):
    with pytest.raises(DataError, match=words) as caught:
        load(root, **settings)
    assert str(root) in str(caught.value)
    return str(caught.value)


def test_images_without_caption_are_counted_and_three_named(tmp_path):
    pictures(tmp_path, *FLAT)
    for name in FLAT[:5]:
        (tmp_path / name).with_suffix(".txt").write_text("words" if name != "0.png" else " \n")
    said = fails(tmp_path, "6 of 10 images have no caption")
    assert all(f"/{name}" in said for name in ("0.png", "5.png", "6.png")) and "7.png" not in said
    assert "and 3 more" in said


@pytest.mark.parametrize("text", [None, "", "  "])
def test_an_empty_caption_is_none(tmp_path, text):
    pictures(tmp_path, *FLAT)
    jsonl(tmp_path / "metadata.jsonl", [*table(FLAT[1:]), {"file_name": "0.png", "text": text}])
    assert "0.png. Give" in fails(tmp_path, "1 of 10 images have no caption")


def test_metadata_that_names_what_is_not_there(tmp_path):
    pictures(tmp_path, *FLAT)
    jsonl(tmp_path / "metadata.jsonl", table([*FLAT, *(f"gone{i}.png" for i in range(5))]))
    said = fails(tmp_path, "names 5 files that are not there")
    assert "gone2.png and 2 more" in said and "gone3" not in said


def test_metadata_that_names_what_is_not_read(tmp_path):
    names = [f"cat/{i}.png" for i in range(5)]
    pictures(tmp_path, *names, "loose.png")
    jsonl(tmp_path / "metadata.jsonl", table([*names, "loose.png"]))
    fails(tmp_path, r"names 1 files that are not read.*loose\.png")


def test_both_kinds_are_refused(tmp_path):
    pictures(tmp_path, *FLAT)
    jsonl(tmp_path / "metadata.jsonl", table(FLAT))
    (tmp_path / "3.txt").write_text("words")
    assert "3.txt" in fails(tmp_path, "two kinds, .*metadata.jsonl")
    (tmp_path / "3.txt").unlink()
    (tmp_path / "metadata.csv").write_text("file_name,text\n")
    fails(tmp_path, r"holds both metadata\.jsonl and metadata\.csv")


@pytest.mark.parametrize(
    ("name", "lines", "words"),
    [
        (
            "metadata.jsonl",
            ['{"file_name": "0.png", "text": "a"}', "", '{"file_name": '],
            "line 3 is no JSON",
        ),
        ("metadata.jsonl", ['["0.png", "a"]'], r"line 1 is \[.*expected an object"),
        ("metadata.jsonl", ['{"file": "0.png", "text": "a"}'], "line 1 has the file_name None"),
        ("metadata.jsonl", ['{"file_name": 0, "text": "a"}'], "line 1 has the file_name 0"),
        ("metadata.jsonl", ['{"file_name": "0.png", "text": 5}'], "line 1 has the text 5, expected a text"),
        (
            "metadata.jsonl",
            ['{"file_name": "0.png", "txet": "a"}'],
            "no column 'text' or 'caption' or 'prompt'",
        ),
        ("metadata.jsonl", [], "no column .* it has none"),
        ("metadata.jsonl", ['{"file_name": "0.png", "text": "a"}'] * 2, "line 2 names 0.png, which has"),
        ("metadata.csv", ["file_name,text", "0.png,a cat, sitting"], "line 2 has more values"),
        ("metadata.csv", ["file_name,text", '0.png,"a'], "no CSV"),
        ("metadata.csv", ["text", "a"], "line 2 has the file_name None"),
        ("metadata.csv", ["file_name,text", "0.png"], "10 of 10 images have no caption"),
    ],
)
def test_broken_metadata_is_refused_with_its_line(tmp_path, name, lines, words):
    pictures(tmp_path, *FLAT)
    (tmp_path / name).write_text("\n".join(lines))
    fails(tmp_path, words)


def test_a_wrong_column_shows_those_there_are(tmp_path):
    pictures(tmp_path, *FLAT)
    jsonl(tmp_path / "metadata.jsonl", table(FLAT, "describe"))
    said = fails(tmp_path, "no column 'described'", caption_column="described")
    assert "it has file_name, describe" in said and "Did you mean 'describe'?" in said


@pytest.mark.parametrize("name", ["0.txt", "metadata.csv"])
def test_a_text_in_another_encoding_is_named(tmp_path, name):
    pictures(tmp_path, *FLAT)
    (tmp_path / name).write_bytes("Größe".encode("latin-1"))
    fails(tmp_path, rf"{name}: cannot be read as text in UTF-8")


# --- folders without classes --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_few_pictures_of_one_thing_are_all_in_both_splits(tmp_path, count):
    greys = pictures(tmp_path, *FLAT[:count])
    jsonl(tmp_path / "metadata.jsonl", table(FLAT[:count]))
    train, test = load(tmp_path), load(tmp_path, "test")
    assert seen(train, greys) == seen(test, greys) == {name: f"this is {name}" for name in FLAT[:count]}
    assert len(train) == len(test) == count
    for record in (train, test):
        assert "the test split is the training images themselves" in record.preparation["split"]


def test_from_five_on_a_fifth_is_held_out_as_ever(tmp_path):
    greys = pictures(tmp_path, *FLAT[:5], ".hidden.png")
    train, test = load(tmp_path), load(tmp_path, "test")
    assert (len(train), len(test)) == (4, 1) and "split" not in train.preparation
    found = [greys[int(image[0, 0, 0])] for record in (train, test) for image in record.images]
    assert sorted(found) == FLAT[:5]


def test_a_class_folder_that_is_called_image_is_none_the_less_a_class(tmp_path):
    pictures(tmp_path, *(f"image/{i}.png" for i in range(3)))
    assert (len(load(tmp_path)), len(load(tmp_path, "test"))) == (2, 1)
