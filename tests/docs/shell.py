"""Runs the commands of the documents as a reader types them, with values behind them that make them take a second.

The text of a command stays; what is appended is in TINY. Programs that are neither ours nor a few of the system's
are refused, so that a new one in the documents gets a thought here.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from .blocks import ROOT

_RUN = [
    "train.steps=2",
    "train.batch_size=4",
    "train.warmup_steps=0",
    "validation.every=2",
    "validation.images=4",
    "preview.every=null",
    "evaluation.images=8",
    "evaluation.splits=2",
    "sampling.steps=1",
    "data.synthdigits.count_train=20",
    "data.synthdigits.count_test=10",
]
_SCORED = ["evaluation.interval_images=8", "evaluation.every=2"]
# Options win where they come last, as overrides do.
TINY: dict[str, list[str]] = {
    "train": _RUN,
    "sample": ["--steps", "1", "--count", "2"],
    "eval-is": ["--images", "8", "--splits", "2", "--steps", "1"],
    "extractor train": ["--steps", "2"],
    "params": [],
    "sweep": [key for key in _RUN if not key.startswith("evaluation")]
    + ["evaluation.images=8", "evaluation.splits=2"],
}
# A packaged sweep takes hours: the same file with few settings stands in for it, except where it is only planned.
_SYSTEM = {"cat", "cp", "ls", "mkdir", "cd"}


class CommandFailed(AssertionError):
    """A command of the documents does not do what its page says."""


def run_command(line: str, folder: Path) -> str:
    """Run one command in ``folder``, which is the current one; what it printed.

    Raises:
        CommandFailed: if it fails, or is of a program that the documents are not expected to use.
    """
    words = shlex.split(line, comments=True)
    if words[0] == "superlora-diff" and "$(" not in line:
        return _run_ours(words[1:], line)
    if words[0] == "make":
        return _check_make(words[1:], line)
    if words[0] == "pip":
        return _check_pip(words[1:], line)
    if words[0] == "python":
        return _run_process(["python", *words[1:]], line)
    if words[0] in _SYSTEM or line.startswith('eval "$(superlora-diff '):
        return _run_process(["bash", "-c", line], line)
    raise CommandFailed(f"{line}\n  {words[0]} is no program that these tests know: see tests/docs/shell.py")


def _run_ours(words: list[str], line: str) -> str:
    from superlora_diffusion.cli.main import app

    result = CliRunner().invoke(app, shorten(words), catch_exceptions=False)
    if result.exit_code != 0:
        raise CommandFailed(
            f"{line}\n  ran as {shlex.join(shorten(words))}\n{result.stderr}{result.stdout[-2000:]}"
        )
    return result.stdout


def shorten(words: list[str]) -> list[str]:
    """The words of a call of ours, with what makes it short behind them."""
    verb = " ".join(words[:2]) if " ".join(words[:2]) in TINY else (words or [""])[0]
    if verb not in TINY or "--help" in words:
        return words
    more = list(TINY[verb])
    if verb == "train" and any(word.startswith(("eval.every", "evaluation.every")) for word in words):
        more += _SCORED
    if verb == "sweep" and "--dry-run" not in words:
        words = [_small_sweep(word) if word.startswith("sweeps/") else word for word in words]
    return [*words, *more]


def _small_sweep(name: str) -> str:
    """A file with one setting of a packaged sweep and a race of one step, in the current folder; its name."""
    import yaml

    from superlora_diffusion.sweeps.config import read_sweep

    values = read_sweep(name)
    values["settings"] = values["settings"][:1]
    values |= {"seeds": [0], "learning_rate": {"steps": 1, "max_tries": 1}}
    for key in ("train.steps", "train.batch_size", "validation", "preview", "sampling", "evaluation"):
        values["set"].pop(key, None)
    path = Path(re.sub(r"\W", "-", name) + ".yaml")
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def _check_make(words: list[str], line: str) -> str:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for word in words:
        if "=" not in word and word not in targets:
            raise CommandFailed(f"{line}\n  the Makefile has no target {word}")
    return ""


def _check_pip(words: list[str], line: str) -> str:
    """Nothing is installed; the extras have to be there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(rf"{project['name']}\[(.*?)\]|^\.\[(.*?)\]", "\n".join(words), re.M):
        for extra in "".join(extras).split(","):
            if extra not in project["optional-dependencies"]:
                raise CommandFailed(f"{line}\n  there is no extra {extra}")
    if words[0] != "install":
        raise CommandFailed(f"{line}\n  only pip install is expected")
    return ""


def _run_process(words: list[str], line: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"{line}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout
