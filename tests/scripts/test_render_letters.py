"""Letters as a target: what is in the file, and that a picture depends on its number alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "render_letters.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("render_letters", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_file_of_white_letters(script, tmp_path, monkeypatch, capsys):
    path = tmp_path / "made" / "letters.npz"
    monkeypatch.setattr("sys.argv", ["render_letters.py", str(path), "--count", "40", "--size", "16"])
    script.main()
    assert "40 pictures of A, B" in capsys.readouterr().out
    with np.load(path) as file:
        images, labels = file["images"], file["labels"]
    assert images.shape == (40, 16, 16) and images.dtype == np.uint8
    assert labels.tolist() == list(range(10)) * 4
    assert (images.reshape(40, -1).max(1) > 150).all(), "ink"
    assert np.median(images) == 0 and images[:, 0, 0].max() < 60, "on black"
    assert len(np.unique(images.reshape(40, -1), axis=0)) == 40
    np.testing.assert_array_equal(script.render(0, 17, 16), images[17])
    assert (script.render(1, 17, 16) != images[17]).any()


def test_letters_differ_more_than_pictures_of_one(script):
    """The mean picture of I is darker than that of H in every half."""
    means = [np.mean([script.render(0, 10 * i + letter, 16) for i in range(20)], axis=0) for letter in (7, 8)]
    assert means[0].mean() > 1.3 * means[1].mean()


@pytest.mark.parametrize("words", [["--count", "0"], ["--size", "17"]])
def test_what_cannot_be_drawn_is_refused(script, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["render_letters.py", str(tmp_path / "x.npz"), *words])
    with pytest.raises(SystemExit):
        script.main()
    assert "a divisor of 112" in capsys.readouterr().err and not list(tmp_path.iterdir())
