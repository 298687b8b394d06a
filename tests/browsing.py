"""A real browser for the tests of pages. The fixture is one of all tests: a process drives one playwright alone."""

from __future__ import annotations

import os
import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    """Chromium by playwright. Where SUPERLORA_REQUIRE_BROWSER is 1, its absence fails instead of skipping."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        text = (
            f"no browser ({', '.join(BROWSERS)}) in PATH; `make browser` installs Debian's chromium as root"
        )
        if os.environ.get("SUPERLORA_REQUIRE_BROWSER") == "1":
            pytest.fail(text)
        pytest.skip(text)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()
