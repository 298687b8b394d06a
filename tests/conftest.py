"""One thread, here and in the processes that tests start, and a cache folder of their own.

The tensors are too small to share, and results stay the same to the last bit.
"""

import functools
import os

import pytest
import torch
import typer.testing
from browsing import browser  # noqa: F401 - a fixture

os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# Every call of the program in a test builds its commands anew otherwise.
typer.testing._get_command = functools.cache(typer.main.get_command)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """The user's cache is neither read nor written."""
    before = os.environ.get("SUPERLORA_CACHE")
    os.environ["SUPERLORA_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("SUPERLORA_CACHE")
    if before is not None:
        os.environ["SUPERLORA_CACHE"] = before
