"""Folders, sizes and processors."""

from __future__ import annotations

import os

import pytest
import torch

from superlora_diffusion.diagnosis import machine


def test_the_processor_is_there():
    found = machine.list_devices()
    assert found["cpu"]["threads"] == torch.get_num_threads() and found["cpu"]["cores"] >= 1
    assert len(found["cuda"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_a_gpu_is_described_by_name_memory_and_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (3 + index, 9))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7 + index, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    first, second = machine.list_devices()["cuda"]
    assert first == {"name": "card 0", "memory": 9, "free": 3, "capability": "7.5", "fast_bf16": False}
    assert second["fast_bf16"] and second["name"] == "card 1" and second["free"] == 4


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("flags\t\t: fpu amx_bf16 sse\n", True),
        ("flags : fpu sse\nbugs : bf16\n", False),
        ("Features : asimd bf16\n", True),
        ("model : 3\n", None),
    ],
)
def test_bf16_is_read_from_the_flags(tmp_path, text, answer):
    (tmp_path / "cpuinfo").write_text(text)
    assert machine.cpu_has_bf16(tmp_path / "cpuinfo") is answer
    assert machine.cpu_has_bf16(tmp_path / "gone") is None


def test_a_folder_that_is_not_there_yet_is_judged_by_what_it_would_lie_in(tmp_path, monkeypatch):
    found = machine.describe_folder(tmp_path / "deep/er")
    assert not found["exists"] and found["writable"] and found["free"] > 0
    assert not (tmp_path / "deep").exists() and list(tmp_path.iterdir()) == []
    assert machine.describe_folder(tmp_path)["exists"]

    def refuse(**given):
        raise OSError("read-only")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    assert not machine.describe_folder(tmp_path)["writable"]


def test_sizes_count_files_in_depth_and_no_links(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"x" * 10)
    (tmp_path / "a/b/two").write_bytes(b"x" * 5)
    os.symlink(tmp_path / "a/one", tmp_path / "link")
    assert machine.measure_folder(tmp_path) == (15, True)
    assert machine.measure_folder(tmp_path, seconds=0) == (0, False)
    assert machine.measure_folder(tmp_path / "gone") == (0, True)


def test_a_compiler_is_looked_for_where_CXX_says(tmp_path, monkeypatch):
    own = tmp_path / "my-compiler"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("CXX", str(own))
    assert machine.find_compiler()["cxx"] == str(own)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.find_compiler()["cxx"] is None
