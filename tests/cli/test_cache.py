"""``cache ls`` and ``cache clear``."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from superlora_diffusion.cli.main import app


def call(*words):
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """A cache with two files of features, one of rendered digits, and a stranger's folder."""
    monkeypatch.setenv("SUPERLORA_CACHE", str(tmp_path))
    for name in ("features/a.npz", "features/b.npz", "synthdigits/c.npz", "other/mine.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1500))
    (tmp_path / "features/a.npz.lock").write_text("")
    return tmp_path


def test_kinds_are_listed_with_number_and_size(filled):
    listed = json.loads(call("cache", "ls", "--json").stdout)
    assert listed["folder"] == str(filled)
    assert [(row["name"], row["files"], row["bytes"]) for row in listed["kinds"]] == [
        ("features", 2, 3000),
        ("other", 1, 1500),
        ("synthdigits", 1, 1500),
    ]
    assert "3 kB" in call("cache", "ls").stdout


def test_one_kind_or_all_are_cleared_and_nothing_else(filled):
    assert "Deleted 2 files of features" in call("cache", "clear", "features").stdout
    assert sorted(path.name for path in filled.iterdir()) == ["other", "synthdigits"]
    assert [row["name"] for row in json.loads(call("cache", "clear", "--json").stdout)] == ["synthdigits"]
    assert [path.name for path in filled.iterdir()] == ["other"]
    assert "nothing to delete" in call("cache", "clear").stdout
    said = call("cache", "clear", "feature")
    assert said.exit_code == 2 and "Did you mean 'features'" in said.stderr


def test_an_absent_cache_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("SUPERLORA_CACHE", str(tmp_path / "none"))
    assert "(empty)" in call("cache", "ls").stdout
    assert "nothing to delete" in call("cache", "clear").stdout
    assert not (tmp_path / "none").exists()
