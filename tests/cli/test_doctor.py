"""``superlora-diff doctor``."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from superlora_diffusion.cli.main import app
from superlora_diffusion.diagnosis import diagnosis, machine, packages
from superlora_diffusion.diagnosis.packages import Extra, Package


def call(*words):
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_an_installation_that_is_whole():
    result = call("doctor")
    assert result.exit_code == 0 and "All that is required is there." in result.stdout
    for word in ("torch", "diffusers", "Python", "cpu", "cache", "HF_HUB_OFFLINE"):
        assert word in result.stdout
    told = json.loads(call("doctor", "--json").stdout)
    assert told["faults"] == [] and all(package["fits"] for package in told["packages"])
    versions = {package["name"]: package["version"] for package in told["packages"]}
    assert versions["torch"] == importlib.metadata.version("torch") and len(versions) > 10


def test_what_is_missing_or_too_old_ends_with_exit_code_one(monkeypatch):
    faulty = [Package("diffusers", ">=0.36", "0.30.0"), Package("accelerate", ">=1.10", None)]
    monkeypatch.setattr(diagnosis, "required_packages", lambda: faulty)
    result = call("doctor")
    assert result.exit_code == 1 and "All that is required" not in result.stdout
    last = result.stdout.split("To put right")[1]
    assert "diffusers is 0.30.0" in last and "pip install 'accelerate>=1.10'" in last
    assert re.search(r"^  !!  diffusers +0.30.0", result.stdout, re.M)
    told = json.loads(call("doctor", "--json").stdout)
    assert len(told["faults"]) == 2 and not told["packages"][0]["fits"]


def test_a_missing_extra_is_no_fault_and_comes_with_its_line(monkeypatch):
    gone = Extra("peers", (Package("peft", ">=1", "1.0"), Package("lycoris-lora", ">=3", None)))
    monkeypatch.setattr(diagnosis, "list_extras", lambda: [gone])
    result = call("doctor")
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if "peers" in line)
    assert line.startswith("  --") and "(missing: lycoris-lora)" in line and "method=lycoris" in line
    assert line.endswith("pip install 'superlora-diffusion[peers]'")


def test_a_torch_that_does_not_load_is_a_fault(monkeypatch):
    def broken():
        raise OSError("libcudart.so: cannot open")

    monkeypatch.setattr(machine, "list_devices", broken)
    result = call("doctor")
    assert result.exit_code == 1 and "torch does not load: libcudart.so" in result.stdout
    assert "All that is required" not in result.stdout


def test_a_package_without_metadata_says_so(monkeypatch):
    def gone(name):
        raise packages.installed.PackageNotFoundError(name)

    monkeypatch.setattr(packages.installed, "requires", gone)
    result = call("doctor")
    assert result.exit_code == 1 and "is not installed (pip install" in result.stdout


@pytest.mark.parametrize("token", ["hf_aVerySecretToken", None])
def test_the_token_is_looked_for_and_never_shown(monkeypatch, tmp_path, token):
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    text, told = call("doctor").stdout, call("doctor", "--json").stdout
    assert ("a token is there" in text) == (token is not None)
    assert json.loads(told)["hub"]["logged_in"] == (token is not None)
    assert "hf_aVery" not in text + told


def test_what_is_worth_knowing(monkeypatch):
    monkeypatch.setattr(machine, "find_compiler", lambda: {"cxx": None, "triton": None})
    unwritable = {"path": "/x", "exists": True, "writable": False, "free": 5}
    monkeypatch.setattr(machine, "describe_folder", lambda path: unwritable)
    result = call("doctor")
    notes = result.stdout.split("Worth knowing")[1]
    assert result.exit_code == 0
    for word in ("SUPERLORA_CACHE", "output=FOLDER", "Less than 2 GB", "No C++ compiler"):
        assert word in notes
    assert "triton" not in notes  # no GPU, no need of it


def test_it_answers_quickly_since_it_loads_no_library_but_torch():
    """Torch has to be loaded, to tell the devices; each of the others would add seconds to the answer."""
    slow = ("diffusers", "transformers", "torchvision", "torch_fidelity", "accelerate", "peft", "matplotlib")
    code = f"""
import runpy, sys
sys.argv = ["superlora-diff", "doctor", "--json"]
try:
    runpy.run_module("superlora_diffusion", run_name="__main__")
finally:
    print([name for name in {slow!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert json.loads(done.stdout)["devices"]["cpu"]["threads"] >= 1
