"""A sweep's folder on disk."""

from __future__ import annotations

import pytest

from .material import write_sweep


@pytest.fixture(scope="session")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("report") / "compare")
