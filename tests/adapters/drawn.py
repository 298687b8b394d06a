"""Checks that every map's arrays share: drawn in a fresh process, and each of their entries in the checksum."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import torch

from superlora_diffusion.adapters.checksum import checksum, checksums_agree
from superlora_diffusion.adapters.projection import draw_arrays

FRESH = """
import json, sys, torch
torch.manual_seed(99); torch.randn(17)
from superlora_diffusion.adapters.projection import draw_arrays
arrays = draw_arrays(*json.loads(sys.argv[1]))
print(json.dumps({name: array.tolist() for name, array in arrays.items()}))
"""


def summary(array) -> list[int]:
    """The sum of entry * (1 + index % 7), and the first five entries."""
    values = np.asarray(array).reshape(-1).astype(np.int64)
    return [int((values * (1 + np.arange(len(values)) % 7)).sum()), *values[:5].tolist()]


def assert_golden(kind: str, grid: tuple[int, int], m: int, golden: dict[str, list[int]]) -> None:
    """Seed 7 and group 2 draw the same here, in a fresh process under another global seed, and ever since."""
    command = [sys.executable, "-c", FRESH, json.dumps([kind, grid, m, 7, 2])]
    fresh = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    here = draw_arrays(kind, grid, m, 7, 2)
    assert torch.equal(torch.get_rng_state(), before), "the global state is left alone"
    assert fresh == {name: array.tolist() for name, array in here.items()}
    assert {name: summary(array) for name, array in fresh.items()} == golden


def assert_each_draw_is_its_own(kind: str, grid: tuple[int, int], m: int, name: str) -> None:
    """Seeds and groups differ, and any two swapped entries are seen by the checksum."""
    arrays = draw_arrays(kind, grid, m, 3, 0)
    for seed, group in ((3, 1), (4, 0)):
        assert not torch.equal(arrays[name], draw_arrays(kind, grid, m, seed, group)[name])
    for place in (1, len(arrays[name]) - 1):
        other = arrays[name].clone()
        assert other[place] != other[0]
        other[0], other[place] = arrays[name][place], arrays[name][0]
        assert not checksums_agree(checksum([arrays]), checksum([{name: other}]))
    assert checksums_agree(checksum([arrays]), checksum([draw_arrays(kind, grid, m, 3, 0)]))
