"""Whole files or none, and messages where the system refuses."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from superlora_diffusion.errors import SuperLoRAError
from superlora_diffusion.files import write_atomically, write_folder_atomically, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_are_made_with_their_folders_and_replaced(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "one")
    write_text(tmp_path / "a" / "b.txt", "zwölf")
    write_json(tmp_path / "a" / "c.json", {"x": [1]})
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "zwölf"
    assert (tmp_path / "a" / "c.json").read_text() == '{\n  "x": [\n    1\n  ]\n}\n'
    assert names(tmp_path / "a") == ["b.txt", "c.json"]
    assert (tmp_path / "a" / "b.txt").stat().st_mode & 0o777 == 0o644


def broken_write(partial):
    partial.write_text("half")
    raise RuntimeError("stop")


def test_a_broken_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "b.txt", "old")
    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(tmp_path / "b.txt", broken_write)
    assert (tmp_path / "b.txt").read_text() == "old" and names(tmp_path) == ["b.txt"]


def test_folders_appear_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "folder"
    write_folder_atomically(target, lambda partial: (partial / "one").write_text("1"))
    write_folder_atomically(target, lambda partial: (partial / "two").write_text("2"))
    assert names(target) == ["two"] and names(target.parent) == ["folder"]
    with pytest.raises(RuntimeError, match="stop"):
        write_folder_atomically(target, lambda partial: broken_write(partial / "three"))
    assert names(target) == ["two"] and names(target.parent) == ["folder"]


@pytest.mark.parametrize("write", [write_text, lambda path, text: write_folder_atomically(path, print)])
def test_a_place_that_cannot_be_written_is_named(tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(SuperLoRAError, match=r"file/x cannot be written: .*Choose another place") as caught:
        write(tmp_path / "file" / "x", "text")
    assert caught.value.exit_code == 1


def test_a_full_disk_is_a_message_whoever_notices(tmp_path):
    def os_error(partial):
        raise OSError(28, "No space left on device")

    def safetensors_error(partial):
        save_file({"x": torch.zeros(2)}, tmp_path / "no" / "such" / "folder" / "x")

    for write in (os_error, safetensors_error):
        with pytest.raises(SuperLoRAError, match=r"x cannot be written: (No space left|.*[Nn]o such file)"):
            write_atomically(tmp_path / "x", write)
    assert names(tmp_path) == []


def test_files_in_a_folder_get_the_usual_rights(tmp_path):
    def fill(partial):
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_text("x")
        (partial / "inner" / "file").chmod(0o600)

    write_folder_atomically(tmp_path / "folder", fill)
    (tmp_path / "plain").write_text("x")
    modes = [
        path.stat().st_mode & 0o777 for path in (tmp_path / "folder" / "inner" / "file", tmp_path / "plain")
    ]
    assert modes[0] == modes[1]
