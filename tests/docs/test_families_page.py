"""The page about families is up to date, and each cell of its table is a test that is there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from superlora_diffusion.models.families import all_families

from .blocks import ROOT

_spec = importlib.util.spec_from_file_location("make_family_tables", ROOT / "scripts/make_family_tables.py")
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def rows() -> list[list[str]]:
    """The cells of the table of verbs as the page has it, its head first."""
    table = script.PAGE.read_text().split("<!-- made: verbs -->")[1].split("<!-- end -->")[0]
    lines = [line for line in table.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def cells() -> list[tuple[str, str, str]]:
    """(kind, what the cell says, test) of each."""
    kinds = {title: kind for kind, title in script.KINDS.items()}
    head, *body = rows()
    return [
        (kinds[title], cell, row[-1].strip("`"))
        for row in body
        for title, cell in zip(head[1:-1], row[1:-1], strict=True)
    ]


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """Ids of the tests that pytest finds in the files that the page names."""
    files = sorted({test.split("::")[0] for _, _, test in cells()})
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(words, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.split())


def test_the_page_is_up_to_date():
    text = script.PAGE.read_text()
    assert text == script.with_tables(text), "run python scripts/make_family_tables.py"
    assert all(f"| {family.title} | `{family.network}` |" in text for family in all_families())


def test_every_cell_is_a_test_or_a_reason(collected):
    found = cells()
    assert len(found) == 6 * len(script.ROWS) and len({kind for kind, _, _ in found}) == 6
    for kind, cell, test in found:
        if cell == script.YES:
            assert f"{test}[{kind}]" in collected, f"{test} has no case {kind}"
        else:
            assert len(cell) > 20 and ": " in cell, f"{cell!r} is no reason"
            assert f"{test}[{kind}]" not in collected, f"{test}[{kind}] is there: the cell is a yes"
    assert sum(cell == script.YES for _, cell, _ in found) > 70
