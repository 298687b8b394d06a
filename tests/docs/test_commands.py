"""Every command and every Python block of README and docs is run, page by page, from the top down."""

from __future__ import annotations

from collections import Counter

import pytest

from superlora_diffusion.sweeps.validation import validate

from .blocks import LANGUAGES, REASONS, ROOT, Block, pages, parse_blocks, read_blocks, split_commands
from .given import GIVEN
from .shell import CommandFailed, run_command, shorten

PAGES = [path for path in pages() if read_blocks(path)]
MOST_NOT_RUN = 16


def run_page(blocks: list[Block], folder) -> int:
    """Run the blocks in order; how many commands and Python blocks there were.

    Raises:
        CommandFailed: naming page, line and command.
    """
    names: dict = {"__name__": "__documents__"}
    count = 0
    for block in blocks:
        try:
            count += _run_block(block, folder, names)
        except Exception as error:
            raise CommandFailed(f"{block.place}: {type(error).__name__}: {error}") from error
    return count


def _run_block(block: Block, folder, names: dict) -> int:
    if (file := block.mark("file")) is not None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(block.text)
        if file.endswith(".yaml"):
            verdict = validate(file)
            assert verdict.valid, verdict.faults
        return 1
    if block.mark("not run") is not None:
        return 0
    if block.language == "sh":
        commands = split_commands(block.text)
        for command in commands:
            run_command(command, folder)
        return len(commands)
    if block.language == "python":
        for name in filter(None, (block.mark("given") or "").split(", ")):
            names[name] = GIVEN[name]()
        exec(compile(block.text, block.place, "exec"), names)
        return 1
    return 0


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_page_does_what_it_says(path, reader):
    blocks = read_blocks(path)
    count = run_page(blocks, reader)
    assert count > 0 or all(block.language in ("text", "json") or block.mark("not run") for block in blocks)


def test_blocks_are_of_known_languages_and_configs_are_files():
    for block in [block for path in pages() for block in read_blocks(path)]:
        assert block.language in LANGUAGES, f"{block.place}: the tests know {sorted(LANGUAGES)}"
        if block.language == "yaml":
            assert block.mark("file") or block.mark("not run"), f"{block.place}: name a file before it"
        for name in filter(None, (block.mark("given") or "").split(", ")):
            assert name in GIVEN, f"{block.place}: {name} is not in tests/docs/given.py"


def test_what_is_not_run_has_a_reason_and_is_little():
    left_out = [
        (block.place, reason)
        for path in pages()
        for block in read_blocks(path)
        if (reason := block.mark("not run")) is not None
    ]
    for place, reason in left_out:
        assert reason.startswith(REASONS), f"{place}: {reason!r} begins with none of {REASONS}"
    assert len(left_out) <= MOST_NOT_RUN, "\n".join(f"{place}: {reason}" for place, reason in left_out)
    most = Counter(place.partition(":")[0] for place, _ in left_out).most_common(1)
    assert not most or most[0][1] <= 6, most


# --- the tests of these tests --------------------------------------------------------------------------------


def page(text: str) -> list[Block]:
    return parse_blocks(text, "page.md")


def test_blocks_are_found_with_their_marks():
    text = "a\n<!-- given: unet -->\n```python\nx = 1\n```\n\n  ```sh\n  ls \\\n    -l\n  ls  # here\n  ```\n"
    first, second = page(text)
    assert (first.language, first.text, first.mark("given"), first.line) == ("python", "x = 1\n", "unet", 3)
    assert second.marks == () and split_commands(second.text) == ["ls  -l", "ls  # here"]
    with pytest.raises(AssertionError, match="not closed"):
        page("```sh\nls\n")
    with pytest.raises(AssertionError, match="no block after it"):
        page("<!-- not run: hours -->\ntext\n```sh\nls\n```\n")


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nsuperlora-diff configs ls\nsuperlora-diff configs validate dmo\n```\n",
        "```sh\nsuperlora-diff train --config demo output=runs/x train.step=3\n```\n",
        "```sh\nsuperlora-diff sample runs/gone\n```\n",
        "```sh\nrm -rf x\n```\n",
        "```sh\nmake everything\n```\n",
        "```sh\npip install 'superlora-diffusion[everything]'\n```\n",
        "```sh\nls gone\n```\n",
        "```python\n1 / 0\n```\n",
        "<!-- file: a.yaml -->\n```yaml\noutput: x\ntrain: {step: 3}\n```\n",
        "```sh\nsuperlora-diff cache ls --everything\n```\n",
    ],
)
def test_what_is_wrong_on_a_page_is_found(text, reader):
    with pytest.raises(CommandFailed, match=r"page.md:\d"):
        run_page(page(text), reader)


def test_python_blocks_of_a_page_share_their_names_and_see_its_files(reader):
    text = "<!-- file: deep/a.yaml -->\n```yaml\noutput: x\n```\n```python\nfrom pathlib import Path\nx = 1\n```\n"
    assert (
        run_page(page(text + "```python\nassert x == 1 and Path('deep/a.yaml').exists()\n```\n"), reader) == 3
    )


def test_calls_are_shortened_behind_what_was_typed():
    assert shorten(["sample", "runs/demo", "--count", "80"])[-4:] == ["--steps", "1", "--count", "2"]
    assert shorten(["train", "--config", "demo"])[3] == "train.steps=2"
    assert shorten(["train", "--help"]) == ["train", "--help"]
    assert shorten(["report", "runs"]) == ["report", "runs"]
