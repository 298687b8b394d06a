"""Fenced blocks of the documents, with what the comments before them say.

A comment in the line before a fence directs the tests, and is seen by no reader:

    <!-- not run: network. It fetches SVHN. -->     the block is only read; the reason begins with one of REASONS
    <!-- file: mine.yaml -->                        the block is a file of the page's folder
    <!-- given: unet, pictures -->                  names of tests/docs/given.py that a Python block takes for granted
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = {"sh", "python", "yaml", "json", "text"}
REASONS = ("network", "GPU", "hours", "cluster", "several processes", "system packages", "keeps running")
_FENCE = re.compile(r"^( *)(```+)(.*)$")
_MARK = re.compile(r"^\s*<!-- (not run|file|given): (.*?) -->\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    """The page's path from the top of the project."""
    line: int
    language: str
    text: str
    marks: tuple[tuple[str, str], ...] = ()
    """The comments before it: (not run | file | given, what it says)."""

    def mark(self, name: str) -> str | None:
        return dict(self.marks).get(name)

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """README and every document, in the order of their names."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read_blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    try:
        page = path.relative_to(ROOT).as_posix()
    except ValueError:
        page = path.name
    return parse_blocks(path.read_text(encoding="utf-8"), page)


def parse_blocks(text: str, page: str) -> list[Block]:
    """The fenced blocks of a text.

    Raises:
        AssertionError: for a fence that is not closed, or a directing comment with no block after it.
    """
    found, opened, marks = [], None, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is not None:
            indent, ticks, language, start, lines = opened
            if fence and fence[2] == ticks and not fence[3].strip():
                found.append(Block(page, start, language, "\n".join(lines) + "\n", tuple(marks)))
                opened, marks = None, []
            else:
                lines.append(line.removeprefix(indent))
        elif fence:
            opened = (fence[1], fence[2], fence[3].strip(), number, [])
        elif mark := _MARK.match(line):
            marks.append((mark[1], mark[2]))
        else:
            assert not marks or not line.strip(), (
                f"{page}:{number}: a comment for the tests has no block after it"
            )
    assert opened is None, f"{page}:{opened[3]}: the block is not closed"
    assert not marks, f"{page}: a comment for the tests has no block after it"
    return found


def split_commands(text: str) -> list[str]:
    """The commands of a shell block: lines joined at backslashes, without comments."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.strip() for line in joined.splitlines()]
    return [line for line in lines if line and shlex.split(line, comments=True)]
