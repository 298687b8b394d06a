import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from superlora_diffusion.data.cache import cache_root, cached_arrays
from superlora_diffusion.errors import DataError


def test_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SUPERLORA_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "mine"
    monkeypatch.delenv("SUPERLORA_CACHE")
    assert cache_root() == tmp_path / "xdg" / "superlora-diffusion"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "superlora-diffusion"


def counted(values):
    calls = []
    return calls, lambda: calls.append(1) or {"x": np.array(values)}


def test_made_once_then_read(tmp_path):
    calls, make = counted([1, 2])
    for _ in range(2):
        np.testing.assert_array_equal(cached_arrays(tmp_path / "deep" / "a.npz", make)["x"], [1, 2])
    assert len(calls) == 1


@pytest.mark.parametrize("damage", [b"", b"not a zip", "half"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    calls, make = counted(list(range(1000)))
    path = tmp_path / "a.npz"
    cached_arrays(path, make)
    path.write_bytes(path.read_bytes()[:2000] if damage == "half" else damage)
    assert cached_arrays(path, make)["x"][999] == 999 and len(calls) == 2


def test_a_failing_maker_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cached_arrays(tmp_path / "a.npz", lambda: {"x": np.array(1 // 0)})
    assert not list(tmp_path.glob("*.npz"))


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("in the way")  # works as root too, unlike a read-only folder
    with pytest.raises(DataError, match="SUPERLORA_CACHE") as caught:
        cached_arrays(tmp_path / "file" / "a.npz", dict)
    assert str(tmp_path / "file" / "a.npz") in str(caught.value)


MAKER = """
import sys, time, numpy as np
from pathlib import Path
from superlora_diffusion.data.cache import cached_arrays
folder = Path(sys.argv[1])
def make():
    with open(folder / "made", "a") as stream: stream.write("x")
    time.sleep(1)
    return {"x": np.arange(5)}
print(cached_arrays(folder / "a.npz", make)["x"].sum())
"""


def test_two_processes_make_it_once(tmp_path):
    command = [sys.executable, "-c", MAKER, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["10\n", "10\n"]
    assert Path(tmp_path / "made").read_text() == "x"
