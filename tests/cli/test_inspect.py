"""``inspect`` as a person would type it."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from tiny import make_base, run_config
from typed import call

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters import AdapterCard
from superlora_diffusion.cli import inspect as verb
from superlora_diffusion.peers import attach_peer
from superlora_diffusion.runs.folder import RunFolder
from superlora_diffusion.runs.inspection import inspect_adapter

CARD = AdapterCard(
    base="birches-8", data={"name": "mnist-mini"}, training={"steps": 6, "learning_rate": 0.02}
)


def said(*words):
    result = call("inspect", *words)
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    return result.stdout


def save(folder, scale=1.0, card=CARD, **fields):
    adapter = attach(make_base().network, SuperLoRAConfig(**fields))
    adapter.set_scale(scale)
    adapter.save_pretrained(folder, card=card)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a finished run ``runs/demo``, nothing but config and adapter in it, and other adapters."""
    folder = tmp_path_factory.mktemp("inspected")
    run = RunFolder(folder / "runs/demo")
    run.claim(run_config(folder))
    save(run.adapter, variant="lora", rank=2)
    save(folder / "lorta", scale=0.5, variant="lorta", rank=2)
    save(folder / "plain", card=AdapterCard())
    save(folder / "products", variant="lora", route="products", scale=1.0)
    save(folder / "weight", variant="lora", route="weight")
    save(folder / "gain", variant="lora", rank=2, step="gain")
    save(folder / "vectors", targets=["to_q:*"], variant="lora", rank=2)
    save(folder / "kernels", targets=["conv1"], groups="weight", fold="none")
    attach_peer(make_base().network, "bitfit", None, 0).save(folder / "bitfit", CARD)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def test_an_adapter_is_told_a_fact_a_line(here):
    text = said("runs/demo")
    size = (here / "runs/demo/adapter/adapter_model.safetensors").stat().st_size
    assert text.startswith("lora: runs/demo/adapter\n")
    for line in (
        r"settings +variant lora, groups weight, fold none, rank 2",
        r"base +birches-8",
        r"targets +to_q, to_v: 8 matrices, N = 2,048 weights",
        r"parameters +512 numbers train, 25 % of N",
        rf"on disk +{size:,} bytes of adapter_model.safetensors, [\d,]+ bytes of adapter_config.json",
        r"training +steps 6, learning_rate 0.02, data mnist-mini",
    ):
        assert re.search(rf"^  {line} *$", text, re.M), (line, text)
    assert not re.search(r"^  scale", text, re.M)


def test_routes_are_a_table_with_a_row_a_shape(here):
    text = said("runs/demo")
    (row,) = inspect_adapter("runs/demo").targets.shapes
    assert row.training != row.inference
    assert re.search(rf"^ +8  16 x 16 +2  {row.training.text}  {row.inference.text} *$", text, re.M), text
    assert "route auto: what costs less" in text and "batch x positions" in text and "cached()" in text


def test_routes_that_no_cost_decides(here):
    text = said("products")
    assert "route products" in text and re.search(r"two small products +two small products *$", text, re.M)
    text = said("weight")
    assert "route weight" in text and re.search(
        r" 8  added to the weight +added to the weight *$", text, re.M
    )
    assert "batch x positions" not in text and "not of low rank" not in text
    assert "These updates are not of low rank matrix by matrix" in said("lorta")
    text = said("vectors")
    assert "4 matrices and 4 vectors, N =" in text and "4 of the targets are vectors" in text
    assert "not of low rank" not in text
    count = inspect_adapter("kernels").targets.count
    assert count > 1 and f"{count} of the targets are convolutions" in said("kernels")


def test_scale_and_silence_are_told(here):
    assert re.search(r"^  scale +0.5 ", said("lorta"), re.M)
    text = said("plain")
    assert re.search(r"settings +all at their defaults", text) and re.search(r"base +not told", text)
    assert "training" not in text.split("How updates")[0]


def test_factors_of_steps_are_told(here):
    assert inspect_adapter("gain").step_factors == (4, 4)  # kappa = sqrt(256 / 64), of two tensors
    assert re.search(r"^  step factor +4 \(of step gain", said("gain"), re.M)
    assert "step factor" not in said("runs/demo") and inspect_adapter("bitfit").step_factors is None


@pytest.mark.parametrize(
    ("trained", "text"), [(68, "3 classes, 68 numbers trained beside"), (0, "3 classes, the base's own")]
)
def test_the_head_of_a_classifier_is_told(trained, text, tmp_path):
    save(
        tmp_path / "a",
        card=AdapterCard(classification={"class_names": list("abc"), "head_parameters": trained}),
    )
    assert re.search(rf"^  head +{text} *$", said(str(tmp_path / "a")), re.M)
    found = json.loads(said(str(tmp_path / "a"), "--json"))
    assert found["head"] == {"classes": 3, "parameters": trained}


def test_what_draws_images_has_no_head(here):
    assert inspect_adapter("runs/demo").head is None and not re.search(r"^  head ", said("runs/demo"), re.M)


def test_a_peer_is_told_without_routes(here):
    text = said("bitfit")
    found = inspect_adapter("bitfit")
    assert text.startswith(f"{found.name}: bitfit\n") and f"{found.parameters:,} numbers train" in text
    assert re.search(r"method +bitfit", text) and re.search(r"base +birches-8", text)
    assert "SuperLoRA adapters alone" in text and "added to the weight" not in text


@pytest.mark.parametrize("source", ["runs/demo", "lorta", "bitfit"])
def test_json_is_all_there_is(source, here):
    assert json.loads(said(source, "--json")) == inspect_adapter(source).as_dict()


def test_the_examples_run_as_printed(here):
    lines = [line.strip() for line in verb._HELP.splitlines()]
    examples = [shlex.split(line)[1:] for line in lines if line.startswith("superlora-diff ")]
    assert len(examples) >= 2 and all(call(*words).exit_code == 0 for words in examples)


def test_what_is_wrong_is_said_without_a_traceback(here, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"format_version": 1}')
    for source, text in {
        "gone": "gone is no folder",
        ".": "neither an adapter",
        tmp_path: "is broken",
    }.items():
        result = call("inspect", source)
        assert result.exit_code == 1 and result.stdout == ""
        assert result.stderr.startswith("error: ") and text in result.stderr
