"""Measured numbers on the pages about settings are those of the table of all runs."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from itertools import takewhile
from statistics import mean, stdev

from superlora_diffusion.adapters.variants import VARIANTS

from .blocks import ROOT

# "| 1,088 | 13.79 |", "(1,088) has FID 13.79", "(1,472) has 12.92", "(rank 8, 17,408: FID 3.77"
_PAIRS = re.compile(
    r"([\d,]+)(?: numbers)?(?: \| |\) (?:has|have) (?:FID )?|: (?:FID )?|\): )(\d+\.\d\d)(?!\d)"
)


def measured() -> dict[int, set[str]]:
    """FIDs, as they are printed, by number of parameters: means over the seeds of each setting."""
    found: dict[int, set[str]] = defaultdict(set)
    for (_, _, parameters), rows in runs_of("compare.csv").items():
        found[int(parameters)].add(f"{mean(float(row['fid']) for row in rows):.2f}")
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


def section(heading: str) -> str:
    """A section of the page of results."""
    return (ROOT / "docs/results.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows_of(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file of results."""
    with (ROOT / "docs/results" / name).open() as stream:
        return list(csv.DictReader(stream))


def runs_of(name: str) -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """The runs of a CSV file of results, by (target, setting, parameters)."""
    found = defaultdict(list)
    for row in rows_of(name):
        found[row["target"], row["setting"], row["parameters"]].append(row)
    return found


def spread(rows: list[dict[str, str]], key: str, digits: int, times: int = 1) -> str:
    """Mean and deviation as a table has them."""
    values = [times * float(row[key]) for row in rows]
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def test_the_table_of_image_classification_is_that_of_its_runs():
    runs, text = runs_of("vit.csv"), section("Image classification")
    settings = {(setting, count) for _, setting, count in runs}
    assert len(settings) == 15 and all(len(rows) == 3 for rows in runs.values())
    for setting, count in settings:
        cells = [setting, f"{int(count):,}"]
        for target in ("npz:mnist_train_part.npz", "npz:usps.npz"):
            rows = runs[target, setting, count]
            cells += [rows[0]["lr"], spread(rows, "val_loss", 3), f"{spread(rows, 'accuracy', 1, 100)} %"]
        assert f"| {' | '.join(cells)} |" in text
    assert f"All {sum(map(len, runs.values()))} runs" in text and text.count("\n| ") == len(settings) + 2


def test_the_tables_of_the_front_are_those_of_its_runs():
    runs, lines = runs_of("front.csv"), section("The front").splitlines()
    several = {key: rows for key, rows in runs.items() if len(rows) > 1}
    assert {target for target, _, _ in several} == {
        f"npz:{name}.npz"
        for name in ("mnist_train_part", "usps", "letters", "mnist-12px", "mnist-8px", "usps-8px")
    }
    for (_, setting, count), rows in several.items():
        scores = " | ".join(
            spread(rows, key, digits) for key, digits in (("val_loss", 4), ("is_distance", 3), ("fid", 2))
        )
        told = [
            line
            for line in lines
            if line.startswith(f"| {setting} | ") and f"| {len(rows)} | {scores} |" in line
        ]
        assert len(told) == 1 and f" | {int(count):,} | " in told[0], (setting, scores)


def test_the_guides_first_table_is_that_of_the_front():
    text = (ROOT / "docs/guide/choosing.md").read_text().split("## In short")[1].split("\n## ")[0]
    kinds = (("accuracy", 1, 100), ("fid", 2, 1), ("is_distance", 3, 1), ("val_loss", 4, 1))
    found = {
        int(count): [
            f"{mean(times * float(row[key]) for row in rows):.{digits}f}" for key, digits, times in kinds
        ]
        for (target, setting, count), rows in runs_of("front.csv").items()
        if target == "npz:mnist_train_part.npz"
        and setting.startswith("spectral")
        and not setting.endswith("-clip")
    }
    rows = [
        [cell.strip(" %") for cell in line.split("|")[2:7]] for line in text.splitlines() if " % |" in line
    ]
    assert len(rows) == 4
    for count, *scores in rows:
        assert scores == found[int(count.replace(",", ""))]


def test_the_table_of_the_papers_settings_is_that_of_its_runs():
    text, rows = section("The paper's experiment"), rows_of("paper.csv")
    assert len(rows) == 3 * 14
    for row in rows:
        own = row["setting"].removeprefix(f"{row['move']}-")
        scores = f"{float(row['is_distance']):.3f} | {float(row['fid']):.2f} | {float(row['val_loss']):.4f}"
        (line,) = (line for line in text.splitlines() if f" | {own} | {int(row['parameters']):,} | " in line)
        assert scores in line and row["published_is_distance"] in line


def rate_curves() -> dict[tuple[str, str], dict[float, float]]:
    """Validation loss by rate, by (setting, rule)."""
    found = defaultdict(dict)
    for row in rows_of("rates.csv"):
        found[row["setting"], row["step"]][float(f"{float(row['learning_rate']):.3g}")] = float(
            row["val_loss"]
        )
    return found


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table_under(text: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first line begins so, its head and rule left out."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith(heading))
    next(lines)
    return [cells_of(line) for line in takewhile(lambda line: line.startswith("|"), lines)]


def test_the_table_of_rates_is_that_of_its_runs():
    curves, counts = rate_curves(), {row["setting"]: int(row["parameters"]) for row in rows_of("rates.csv")}
    rows = table_under(section("One learning rate for all"), "| setting | numbers | best under plain")
    assert {row[0] for row in rows} == {
        setting for setting, _ in curves if not re.search("-all|spectral", setting)
    }
    for setting, *told in rows:
        plain, rms, gain = (curves[setting, rule] for rule in ("plain", "rms", "gain"))
        rate = min(plain, key=plain.get)
        measured = [f"{counts[setting]:,}", f"{plain[rate]:.4f} ({rate:g})"]
        measured += [f"{plain[0.0316]:.4f}", f"{rms[0.0316]:.4f}", f"{gain[0.01]:.4f}"]
        assert told == [*measured, f"{100 * (gain[0.01] / min(gain.values()) - 1):.1f} %"]


def test_the_table_of_settings_that_nobody_tuned_is_that_of_its_runs():
    runs = defaultdict(dict)
    for row in rows_of("untuned.csv"):
        runs[row["setting"]][row["step"]] = row
    rows = table_under(
        section("One learning rate for all"), "| setting | numbers | plain, the variant's rate"
    )
    assert [row[0].strip("`") for row in rows] == list(runs) and len(rows) == 11
    for setting, *told in rows:
        plain, gain = (runs[setting.strip("`")][rule] for rule in ("plain", "gain"))
        losses = [float(run["val_loss"]) for run in (plain, gain)]
        measured = [f"{int(plain['parameters']):,}", f"{losses[0]:.4f} ({plain['learning_rate']})"]
        assert told == [*measured, f"{losses[1]:.4f}", f"{100 * (losses[1] / losses[0] - 1):+.1f} %"]


def test_pairs_are_found():
    assert pairs("| 1,088 | 13.79 | 88.6 |") == [(1088, "13.79")]
    assert pairs("Rank 8 (1,472) has 12.92. (11,619: FID 2.95)") == [(1472, "12.92"), (11619, "2.95")]


def test_every_variant_has_a_page_that_runs_it():
    overview = (ROOT / "docs/methods/index.md").read_text()
    for name in VARIANTS:
        page = (ROOT / f"docs/methods/{name}.md").read_text()
        assert f"adapter.variant={name}" in page
        assert f"`{name}`" in overview and f"({name}.md)" in overview
