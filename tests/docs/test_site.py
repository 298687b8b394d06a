"""The documents as a site: built strictly, and nothing in it is loaded from a network."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from .blocks import ROOT

pytest.importorskip("material")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "video": "src"}
MAPPED = ("canonical", "alternate", "next", "prev")  # links that a browser does not follow by itself


class Loaded(HTMLParser):
    """Addresses that a browser loads when it shows the page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in LOADED and values.get("rel") not in MAPPED and values.get(LOADED[tag]):
            self.addresses.append(values[LOADED[tag]])


def addresses(text: str) -> list[str]:
    parser = Loaded()
    parser.feed(text)
    return parser.addresses


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def made_pages(site: Path) -> list[Path]:
    """The pages that mkdocs made; the report of results is a page of its own."""
    return [path for path in site.rglob("*.html") if "results" not in path.relative_to(site).parts[:-1]]


def test_every_document_is_a_page(site):
    for path in (ROOT / "docs").rglob("*.md"):
        assert (site / path.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), path
    assert len(made_pages(site)) > 4


def test_nothing_is_loaded_from_a_network(site):
    count = 0
    for path in made_pages(site):
        found = addresses(path.read_text())
        count += len(found)
        assert not [address for address in found if "//" in address], path
    assert count > 20
    for path in site.rglob("*.css"):
        assert "url(http" not in path.read_text() and "@import" not in path.read_text(), path


def test_addresses_are_found():
    text = '<link rel="canonical" href="https://a"><link rel="stylesheet" href="https://b"><img src="//c">'
    assert addresses(text) == ["https://b", "//c"]


def test_the_navigation_names_every_page():
    def files(item):
        values = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        return [item] if values is None else [file for value in values for file in files(value)]

    nav = files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(nav) == there and len(nav) == len(there)
