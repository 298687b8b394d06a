"""Each family's adapter as a file for other tools, read by them, and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from peft import PeftModel
from pipelines import denoiser, load_pipeline

from .family_runs import KINDS, TEXT, refused, said
from .plain import plain_images

VISIBLE = 8
PRECISELY = ("--max-error", "1e-6")


@pytest.fixture
def run(request, runs):
    return runs[request.param]


def for_kinds(kinds):
    return pytest.mark.parametrize("run", kinds, indirect=True)


def assert_ours_not_base(theirs, run):
    assert np.abs(theirs - run.ours).max() <= 1 and np.abs(theirs - run.plain).max() > VISIBLE


@for_kinds(KINDS)
def test_export_peft(run, tmp_path):
    said("export", run.run, "--format", "peft", "--out", tmp_path / "peft", *PRECISELY)
    pipeline = load_pipeline(run.base)
    PeftModel.from_pretrained(denoiser(pipeline), tmp_path / "peft")  # puts its layers where they belong
    assert_ours_not_base(plain_images(pipeline), run)


@for_kinds(KINDS)
def test_export_merged(run, tmp_path):
    said("export", run.run, "--format", "merged", "--out", tmp_path / "merged")
    assert_ours_not_base(plain_images(load_pipeline(tmp_path / "merged")), run)


@for_kinds(TEXT)
def test_export_diffusers(run, tmp_path):
    said("export", run.run, "--format", "diffusers", "--out", tmp_path / "lora", *PRECISELY)
    pipeline = load_pipeline(run.base)
    pipeline.load_lora_weights(tmp_path / "lora")
    assert_ours_not_base(plain_images(pipeline), run)


@for_kinds(["sd", "sdxl"])
def test_export_kohya(run, tmp_path):
    said("export", run.run, "--format", "kohya", "--out", tmp_path / "style.safetensors", *PRECISELY)
    pipeline = load_pipeline(run.base)
    pipeline.load_lora_weights(tmp_path / "style.safetensors")
    assert_ours_not_base(plain_images(pipeline), run)


@for_kinds(KINDS)
def test_import_peft(run, tmp_path):
    assert_comes_back(run, "peft", tmp_path / "peft", tmp_path)


@for_kinds(TEXT)
def test_import_diffusers(run, tmp_path):
    assert_comes_back(run, "diffusers", tmp_path / "lora", tmp_path)


@for_kinds(TEXT)
def test_import_kohya(run, tmp_path):
    assert_comes_back(run, "kohya", tmp_path / "style.safetensors", tmp_path)


def assert_comes_back(run, format, file, tmp_path):
    said("export", run.run, "--format", format, "--out", file, *PRECISELY)
    told = json.loads(said("import", file, "--base", run.base, "--out", tmp_path / "back", "--json"))
    assert told["format"] == format
    assert_ours_not_base(run.drawn(tmp_path / "back", tmp_path / "again"), run)


@for_kinds(["ddpm", "unconditional", "dit"])
@pytest.mark.parametrize("format", ["diffusers", "kohya"])
def test_formats_that_no_library_reads_are_refused(run, format, tmp_path):
    out = tmp_path / ("x.safetensors" if format == "kohya" else "x")
    text = refused("export", run.run, "--format", format, "--out", out)
    assert "diffusers loads no LoRA files" in text and "Use format peft" in text and not out.exists()
