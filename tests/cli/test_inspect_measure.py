"""``inspect --measure`` and what a run tells, as a person would type it."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import make_base, run_config, write_base

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters import AdapterCard
from superlora_diffusion.peers import attach_peer
from superlora_diffusion.runs.folder import RunFolder
from superlora_diffusion.runs.inspection import inspect_adapter
from superlora_diffusion.runs.measuring import measure_adapter

from .test_inspect import call, said


def save(folder, base=None, seed=0, network=None, **fields):
    adapter = attach(make_base(**(network or {})).network, SuperLoRAConfig(**fields))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    adapter.save_pretrained(folder, card=AdapterCard(base=base))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base, a finished run on it with scores, and adapters: without a base, with many targets, of another method."""
    folder = tmp_path_factory.mktemp("measured")
    write_base(folder / "base")
    base = str(folder / "base")
    run = RunFolder(folder / "runs/demo")
    run.claim(run_config(folder))
    save(run.adapter, base, variant="lora", rank=2)
    weights = inspect_adapter(run.path).sha256[:12]
    run.metrics.write_text('{"step": 6, "loss": 0.25, "steps_per_second": 2.0}\n')
    records = [
        {"name": "base", "parameters": 0, "fid": 9.5, "is_mean": 3.25, "n": 8, "extractor": "digits"},
        {"name": "demo", "parameters": 512, "fid": 4.25, "n": 8, "extractor": "digits"},
    ]
    records[1]["settings"] = {"weights": weights}
    run.scores.write_text(json.dumps(records))
    save(folder / "alone", None, variant="lorta", rank=2)
    save(folder / "gone", "nowhere", variant="lora", rank=2)
    save(folder / "many", base, targets=["attention", "conv1", "conv2"], groups="weight", fold="none", rank=1)
    attach_peer(make_base().network, "bitfit", None, 0).save(folder / "bitfit", AdapterCard(base=base))
    attach_peer(make_base().network, "difffit", None, 0).save(folder / "difffit", AdapterCard(base=base))
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def rows(text: str) -> dict[str, list[str]]:
    """The cells behind each target of the table."""
    lines = text.split("How large its updates are")[1].splitlines()
    found = (re.split(r"  +", line.strip()) for line in lines)
    return {cells[0]: cells[1:] for cells in found if "." in cells[0] and len(cells) > 2}


def test_what_the_run_tells(here):
    text = said("runs/demo")
    found = inspect_adapter("runs/demo")
    for line in (
        rf"sha256 +{found.sha256} of its weights",
        r"written by +superlora-diffusion \d\S+",
        r"run +runs/demo",
        r"outcome +loss 0.25, seconds 3",
    ):
        assert re.search(rf"^  {line} *$", text, re.M), (line, text)
    assert re.search(r"learning_rate 0.02, steps 6, batch_size 4", text)
    assert re.search(r"^scores of +parameters +FID +IS +images +extractor *$", text, re.M), text
    assert re.search(r"^base +0 +9.500 +3.250 +8 +digits *$", text, re.M)
    assert re.search(r"^demo +512 +4.250 +8 +digits *$", text, re.M), "a score it lacks is left empty"
    assert "--measure" in text and "How large" not in text
    assert "run" not in said("alone").split("How updates")[0].replace("run-time", "")


def test_the_table_has_a_row_a_target(here):
    text = said("runs/demo", "--measure")
    found = measure_adapter("runs/demo")
    assert f"against the weights of {here / 'base'}" in text
    assert re.search(r"^target +weight +\|dW\| +\|dW\|/\|W\| +largest +effective rank +rank *$", text, re.M)
    told = rows(text)
    assert list(told) == [target.name for target in found.targets] and len(told) == 8
    for target in found.targets:
        size = target.size
        expected = [f"{value:.4g}" for value in (size.norm, target.ratio, size.largest)]
        assert told[target.name] == ["16 x 16", *expected, f"{size.effective_rank:.2f}", "2"]
    assert f"all together: |dW| {found.norm:.4g}, |dW|/|W| {found.ratio:.4g}" in text
    assert "Roy and Vetterli" in text and "--measure" not in text


def test_without_the_base_the_rest_is_told(here):
    for source, why in (("alone", "does not say which base"), ("gone", "nowhere")):
        text = said(source, "--measure")
        assert "the base's weights were not read" in text and why in text
        assert "|dW|/|W|" not in text and len(rows(text)) == 8 and "all together: |dW|" in text
    assert "|dW|/|W|" in said("alone", "--base", "base")
    result = call("inspect", "alone", "--base", "elsewhere")
    assert result.exit_code == 1 and "elsewhere" in result.stderr and "Traceback" not in result.stderr


def test_a_long_table_is_shortened(here):
    short, whole = said("many", "--measure"), said("many", "--measure", "--all")
    names = [target.name for target in measure_adapter("many").targets]
    left_out = len(names) - 20
    assert left_out > 2 and list(rows(whole)) == names
    assert list(rows(short)) == names[:12] + names[-8:]
    assert f"... {left_out:,} more: --all shows them" in short and "--all" not in whole


def test_files(here, tmp_path):
    out = tmp_path / "told"
    text = said("runs/demo", "--out", out)
    assert sorted(path.name for path in out.iterdir()) == ["heatmap.png", "inspection.json"]
    assert text.rstrip().endswith(f"{out / 'inspection.json'}\n{out / 'heatmap.png'}")
    with Image.open(out / "heatmap.png") as picture:
        assert picture.format == "PNG"
    assert json.loads((out / "inspection.json").read_text()) == json.loads(
        said("runs/demo", "--measure", "--json")
    )


def test_json_has_all(here):
    told = json.loads(said("runs/demo", "--measure", "--json"))
    assert told.pop("measures") == measure_adapter("runs/demo").as_dict()
    assert told == inspect_adapter("runs/demo").as_dict()
    assert told["history"]["scores"][1]["fid"] == 4.25


def test_a_peer_is_measured_on_its_base(here):
    text = said("bitfit", "--measure", "--all")
    assert "mid_block.attentions.0.to_q:bias" in text and "left out" not in text
    text = said("difffit", "--measure")
    assert re.search(r"left out: \S+gamma, \.\.\. \(\d+\): it is new beside", text), text


def test_damaged_numbers_are_told(here, tmp_path):
    save(tmp_path / "damaged", str(here / "base"), variant="lora", rank=2)
    file = tmp_path / "damaged" / "adapter_model.safetensors"
    numbers = load_file(file)
    for value in numbers.values():
        value[0, 0] = math.nan
    save_file(numbers, file)
    text = said(tmp_path / "damaged", "--out", tmp_path / "out")
    assert text.count("not finite") >= 8 and "diverged" in text
    assert (tmp_path / "out" / "heatmap.png").is_file()


def test_options_that_do_not_go_together(here):
    for words, text in {
        ("--targets", "base", "--measure"): "go with an adapter",
        ("--targets", "base", "--out", "x"): "go with an adapter",
        ("runs/demo", "--all"): "--all without --targets MODEL or --measure",
    }.items():
        result = call("inspect", *words)
        assert result.exit_code == 2 and text in result.stderr and result.stdout == "", words
