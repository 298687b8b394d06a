"""The benches' own arithmetic and files; times themselves are no test's business."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import common

    return common


def test_ratios_are_of_pairs_not_of_medians(common):
    # The machine is ten times slower in the second half, for both alike.
    assert common.ratio([2.0, 2.0, 20.0, 20.0], [1.0, 1.0, 10.0, 10.0]) == (2.0, 0.0)
    middle, spread = common.ratio([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    assert (middle, spread) == (3.0, 1.0)


def test_works_take_turns_and_each_begins_as_often(common):
    order = []
    works = {name: lambda name=name: order.append(name) for name in "abc"}
    between = lambda: order.append("-")  # noqa: E731
    seconds = common.time_paired(works, 3, 0, torch.device("cpu"), between)
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(order) == "-a-b-c-b-c-a-c-a-b"
    order.clear()
    assert len(common.time_paired(works, 3, 2, torch.device("cpu"))["a"]) == 3
    assert len(order) == 15, "warm-up rounds run and are not counted"


def test_verdicts(common):
    def verdict(ratio, target):
        return common.Record("b", "n", "r", ratio, 0.0, target).verdict

    assert [verdict(0.9, 1.0), verdict(1.0, 1.0), verdict(1.1, 1.0), verdict(5.0, None)] == [
        "yes",
        "yes",
        "no",
        "",
    ]


def test_the_peak_is_of_what_lives_at_once(common):
    with common.PeakCounter() as counter:
        for _ in range(5):
            torch.ones(1000)  # let go of at once
        kept = [torch.ones(1000) for _ in range(3)]
        kept[0].add_(1)  # in place and views make nothing
        kept[0].view(10, 100)[2:].t()
    assert counter.peak == 3 * 4000


def test_a_bench_writes_its_records_and_its_section(tmp_path):
    command = [sys.executable, BENCH / "compiled.py", "--quick", "--json", tmp_path / "r.json"]
    command += ["--markdown", tmp_path / "deep" / "r.md"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    records = json.loads((tmp_path / "r.json").read_text())
    assert {"bench", "name", "reference", "ratio", "spread"} <= set(records[0])
    assert [record["ratio"] for record in records] == [0.0, 0.0], "no graph break, nothing compiled anew"
    section = (tmp_path / "deep" / "r.md").read_text()
    assert section.startswith("## torch.compile") and "| lorta: graph breaks |" in section


def test_every_bench_says_what_it_does():
    scripts = [path for path in BENCH.glob("*.py") if path.stem not in ("common", "networks")]
    assert len(scripts) >= 9
    for path in scripts:
        told = ast.get_docstring(ast.parse(path.read_text()))
        assert f"Run: python scripts/bench/{path.name}" in told, path
