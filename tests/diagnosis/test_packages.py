"""Requirements against what is installed, from metadata lines of our own making."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import numpy
import pytest

from superlora_diffusion.diagnosis import packages
from superlora_diffusion.diagnosis.packages import EXTRA_NOTES, list_extras, look_up, required_packages

LINES = [
    "numpy>=1",
    "no-such-package>=2",
    "windows-only; sys_platform == 'win32'",
    "pyyaml>=1; extra == 'one'",
    "absent-one>=3; extra == 'one'",
    "pyyaml; extra == 'two'",
    "windows-too; (sys_platform == 'win32') and extra == 'two'",
]


def test_required_are_those_of_no_extra_and_of_this_system():
    assert [(package.name, package.accepted) for package in required_packages(LINES)] == [
        ("numpy", ">=1"),
        ("no-such-package", ">=2"),
    ]


def test_extras_tell_what_is_missing_and_how_to_get_it():
    one, two = list_extras(LINES)
    assert (one.name, one.complete, two.name, two.complete) == ("one", False, "two", True)
    assert [package.name for package in one.packages] == ["pyyaml", "absent-one"]
    assert [package.name for package in two.packages] == ["pyyaml"]
    assert one.pip_line == "pip install 'superlora-diffusion[one]'"


def test_faults_say_what_came_what_is_needed_and_what_to_type():
    assert look_up("numpy>=1").fault is None and look_up("numpy>=1").version == numpy.__version__
    old = look_up("numpy>=999")
    assert not old.fits and old.fault.startswith(f"numpy is {numpy.__version__}")
    assert old.fault.endswith("numpy>=999 is needed: pip install 'numpy>=999'")
    gone = look_up("no-such-package>=2").fault
    assert "no-such-package is not installed" in gone and "pip install 'no-such-package>=2'" in gone


def test_a_version_before_its_release_is_a_version(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.0.dev1+cpu")
    assert look_up("torch>=2.9").fits and not look_up("torch>=3.1").fits


@pytest.mark.parametrize(("version", "faulty"), [("3.9.7", True), ("3.13.1", False)])
def test_an_old_python_is_a_fault(monkeypatch, version, faulty):
    monkeypatch.setattr(packages.platform, "python_version", lambda: version)
    fault = packages.python_fault()
    assert (fault is not None) == faulty and (not faulty or version in fault)


def test_every_extra_says_what_it_is_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) <= set(EXTRA_NOTES)
    assert "packaging" in " ".join(project["dependencies"])
