"""What the shell offers on the tab key, asked as bash asks it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import get_args

import pytest

from superlora_diffusion.data.loading import LOADERS
from superlora_diffusion.runs.loading import packaged_configs, packaged_sweeps
from superlora_diffusion.sampling.config import SamplerName

# Completion ends the process; what was loaded by then goes to standard error.
PROGRAM = """
import sys
from superlora_diffusion.cli.main import app
try:
    app(prog_name="superlora-diff")
finally:
    print(sorted({"torch", "diffusers", "torchvision", "matplotlib"} & set(sys.modules)), file=sys.stderr)
"""


def complete(line: str) -> list[str]:
    """What bash would offer for the last word of a line; an empty last word is a line that ends in a space."""
    words = line.split(" ")
    asked = {
        "_SUPERLORA_DIFF_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env={**os.environ, **asked},
        check=True,
    )
    assert done.stderr.strip() == "[]", "completion loads slow libraries"
    return done.stdout.split()


@pytest.mark.parametrize("verb", ["train", "params"])
def test_config_offers_the_packaged_configs(verb):
    assert complete(f"superlora-diff {verb} --config ") == list(packaged_configs())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("superlora-diff train -c de", ["demo"]),
        ("superlora-diff train --config ./mi", []),  # then the shell offers files
        ("superlora-diff sweep --config ", list(packaged_sweeps())),
        ("superlora-diff configs validate ", [*packaged_configs(), *packaged_sweeps()]),
        ("superlora-diff configs cp sweeps/pa", ["sweeps/paper-small"]),
        ("superlora-diff extractor train --data ", list(LOADERS)),
        ("superlora-diff eval-is runs/demo --real cifar", ["cifar10", "cifar100"]),
        ("superlora-diff eval-is runs/demo --extractor di", ["digits", "dinov2"]),
        ("superlora-diff sample runs/demo --sampler ", list(get_args(SamplerName))),
        ("superlora-diff cache clear s", ["synthdigits"]),
        ("superlora-diff sample ru", []),  # run folders are paths
    ],
)
def test_names_are_offered_and_paths_are_left_to_the_shell(line, offered):
    assert complete(line) == offered


def test_verbs_are_offered():
    assert set(complete("superlora-diff s")) >= {"sample", "sweep"} and complete("superlora-diff sw") == [
        "sweep"
    ]


def test_the_shell_falls_back_to_files():
    words = [sys.executable, "-c", PROGRAM, "--show-completion", "bash"]
    # Tests may run outside any shell, where typer finds none to detect.
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = subprocess.run(words, capture_output=True, text=True, check=True, env=named).stdout
    assert "complete -o default" in script and "_SUPERLORA_DIFF_COMPLETE=complete_bash" in script
