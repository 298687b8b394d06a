"""Measured numbers on the pages about settings are those of the table of all runs."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from statistics import mean

from superlora_diffusion.adapters.variants import VARIANTS

from .blocks import ROOT

# "| 1,088 | 13.79 |", "(1,088) has FID 13.79", "(1,472) has 12.92", "(rank 8, 17,408: FID 3.77"
_PAIRS = re.compile(
    r"([\d,]+)(?: numbers)?(?: \| |\) (?:has|have) (?:FID )?|: (?:FID )?|\): )(\d+\.\d\d)(?!\d)"
)


def measured() -> dict[int, set[str]]:
    """FIDs, as they are printed, by number of parameters: means over the seeds of each setting."""
    runs = defaultdict(list)
    with (ROOT / "docs/results/compare.csv").open() as stream:
        for row in csv.DictReader(stream):
            runs[row["setting"], int(row["parameters"])].append(float(row["fid"]))
    found: dict[int, set[str]] = defaultdict(set)
    for (_, parameters), values in runs.items():
        found[parameters].add(f"{mean(values):.2f}")
    return found


def pairs(text: str) -> list[tuple[int, str]]:
    return [(int(count.replace(",", "")), score) for count, score in _PAIRS.findall(text)]


def test_scores_stand_beside_the_counts_they_were_measured_at():
    known, count = measured(), 0
    for path in [ROOT / "docs/guide/choosing.md", *(ROOT / "docs/methods").glob("*.md")]:
        for parameters, score in pairs(path.read_text()):
            assert score in known[parameters], (
                f"{path.name}: {parameters} numbers, {score}; {known[parameters]}"
            )
            count += 1
    assert count > 25


def test_pairs_are_found():
    assert pairs("| 1,088 | 13.79 | 88.6 |") == [(1088, "13.79")]
    assert pairs("Rank 8 (1,472) has 12.92. (11,619: FID 2.95)") == [(1472, "12.92"), (11619, "2.95")]


def test_every_variant_has_a_page_that_runs_it():
    overview = (ROOT / "docs/methods/index.md").read_text()
    for name in VARIANTS:
        page = (ROOT / f"docs/methods/{name}.md").read_text()
        assert f"adapter.variant={name}" in page
        assert f"`{name}`" in overview and f"({name}.md)" in overview
