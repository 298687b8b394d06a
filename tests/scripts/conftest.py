"""What tests of scripts share: scripts/ on the path of imports, and the modules behind make_front.py."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture
def gather():
    from front import gather

    return gather


@pytest.fixture
def ratios():
    from front import ratios

    return ratios
