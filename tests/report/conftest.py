"""A sweep's folder on disk, and a real browser."""

from __future__ import annotations

import pytest
from browsing import browser  # noqa: F401 - a fixture

from .material import write_sweep


@pytest.fixture(scope="session")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("report") / "compare")
