"""``superlora-diff configs``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from superlora_diffusion.cli.main import app
from superlora_diffusion.runs.loading import load_config, packaged_configs, packaged_sweeps
from superlora_diffusion.sweeps.config import load_sweep


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_list_as_json_names_kind_title_and_file():
    rows = {row["name"]: row for row in json.loads(call("configs", "ls", "--json").stdout)}
    assert rows.keys() == packaged_configs().keys() | packaged_sweeps().keys()
    assert rows["demo"]["kind"] == "run" and rows["sweeps/compare"]["kind"] == "sweep"
    assert Path(rows["demo"]["file"]) == packaged_configs()["demo"]
    assert rows["paper/sweeps/to-street"]["kind"] == "sweep" and rows["paper/base-mnist"]["kind"] == "run"
    text = call("configs", "ls").stdout
    assert len({line.index(rows[line.split()[0]]["title"]) for line in text.splitlines()}) == 1, "one column"
    assert all(row["title"] and row["title"] in text and "#" not in row["title"][:1] for row in rows.values())


def test_copies_into_folders_and_says_how_to_use_them(tmp_path):
    result = call("configs", "cp", "sweeps/paper-small", "deep/er/mine.yaml")
    assert "superlora-diff sweep --config deep/er/mine.yaml" in result.stdout
    assert load_sweep("deep/er/mine.yaml") == load_sweep("sweeps/paper-small")
    assert "superlora-diff train --config deep/demo.yaml" in call("configs", "cp", "demo", "deep").stdout
    assert load_config("deep/demo.yaml") == load_config("demo")
    call("configs", "cp", "paper/sweeps/to-street", "deep/back.yaml")
    assert load_sweep("deep/back.yaml") == load_sweep("paper/sweeps/to-street")
    result = call("configs", "cp", "sweeps/compare", "deep")
    assert (tmp_path / "deep/compare.yaml").is_file() and result.exit_code == 0
    again = call("configs", "cp", "demo", "deep")
    assert again.exit_code == 2 and "deep/demo.yaml exists already" in again.stderr
    assert "'my config.yaml'" in call("configs", "cp", "demo", "my config.yaml").stdout


def test_a_file_of_ones_own_is_copied_too(tmp_path):
    (tmp_path / "a.yaml").write_text("output: here\nseeds: [0, 1]\n")
    assert "superlora-diff sweep --config b.yaml" in call("configs", "cp", "a.yaml", "b.yaml").stdout
    wrong = call("configs", "cp", "sweeps/paper-smal", "c.yaml")
    assert wrong.exit_code == 2 and "Did you mean 'sweeps/paper-small'" in wrong.stderr


@pytest.mark.parametrize("name", [*packaged_configs(), *packaged_sweeps()])
def test_everything_packaged_is_valid(name):
    result = call("configs", "validate", name)
    assert result.exit_code == 0 and f"{name} is valid" in result.stdout, result.stderr


def test_a_sweeps_cells_are_counted(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "output: o\nseeds: [0, 1]\ngrid: {adapter.rank: [2, 3, 4]}\nset: {adapter.variant: lora}\n"
    )
    assert "mine.yaml is valid: 6 cells." in call("configs", "validate", "mine.yaml").stdout
    told = json.loads(call("configs", "validate", "mine.yaml", "--json").stdout)
    assert told == {"file": "mine.yaml", "kind": "sweep", "valid": True, "faults": [], "cells": 6}


def test_every_fault_is_told_at_once_with_exit_code_two(tmp_path):
    (tmp_path / "mine.yaml").write_text("output: o\ntrain: {step: 3, batch_size: 0}\ndata: {name: mnits}\n")
    words = ("configs", "validate", "mine.yaml", "train", "adapter.rnk=3")
    result = call(*words)
    assert result.exit_code == 2 and result.stdout == ""
    for word in ("train.step: ", "train.batch_size: ", "data.name: ", "adapter.rnk: ", "override 'train'"):
        assert f"  {word}" in result.stderr
    told = call(*words, "--json")
    assert told.exit_code == 2 and told.stderr == ""
    verdict = json.loads(told.stdout)
    assert not verdict["valid"] and verdict["kind"] == "run" and len(verdict["faults"]) == 5
    assert {"train.step", "adapter.rnk"} < {fault["path"] for fault in verdict["faults"]}


def test_faults_of_a_sweep_are_found_in_every_setting(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "output: o\nsettings:\n  - {name: one, set: {adapter.rank: 0}}\n"
        "  - {name: two, set: {adapter.variant: nora}}\n  - {name: good, set: {adapter.rank: 1}}\n"
    )
    result = call("configs", "validate", "mine.yaml")
    assert result.exit_code == 2 and "sweep config mine.yaml" in result.stderr
    assert "setting one: " in result.stderr and "setting two: " in result.stderr
    assert "good" not in result.stderr


def test_faults_of_the_file_do_not_hide_those_of_its_settings(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "output: o\nseed: [0]\nsettings:\n  - {name: one, set: {adapter.rank: 0}}\n"
    )
    said = call("configs", "validate", "mine.yaml", "train.step").stderr
    assert "  seed: unknown name" in said and "setting one: " in said and "override 'train.step'" in said


def test_a_sweeps_peers_are_checked_too(tmp_path):
    pytest.importorskip("peft")
    (tmp_path / "mine.yaml").write_text(
        "output: o\nset: {method: peft}\ngrid: {peft.options.rr: [1, 2]}\nseeds: [0, 1]\n"
    )
    said = call("configs", "validate", "mine.yaml")
    assert said.exit_code == 2 and said.stderr.count("setting rr") == 2


def test_a_peers_options_are_checked_too():
    pytest.importorskip("peft")
    result = call("configs", "validate", "demo", "method=peft", "peft.options.rr=3")
    assert result.exit_code == 2 and "rr" in result.stderr


def test_what_is_no_config_at_all_says_so(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert "a mapping of names" in call("configs", "validate", "list.yaml").stderr
    gone = call("configs", "validate", "gone.yaml")
    assert gone.exit_code == 2 and "neither a file nor a packaged" in gone.stderr
