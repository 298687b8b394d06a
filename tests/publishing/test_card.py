"""The model card: its metadata as the hub reads it, its tables, and that its Python runs."""

from __future__ import annotations

import json
import re

import pytest
from hub.fake_hub import cache_by_hand, files_in, hub_client
from huggingface_hub import ModelCard
from tiny import make_base

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters import AdapterCard
from superlora_diffusion.files import write_text
from superlora_diffusion.publishing.card import make_card
from superlora_diffusion.publishing.content import read_content
from superlora_diffusion.publishing.push import PushRequest, dry_run
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.runs.folder import RunFolder
from superlora_diffusion.runs.loading import to_yaml
from superlora_diffusion.runs.published import publishable

from .conftest import keep_scored_images, record


def card_of(path, repo_id="user/demo", **options):
    return make_card(read_content(str(path)), repo_id, **options)


def metadata_of(path, **options):
    """What the hub's own reader finds in the block at the top."""
    return ModelCard(card_of(path, **options)).data


def adapter(folder, base="synthdigits-16", data=None, **fields):
    card = AdapterCard(base=base, data=data or {}, training={"steps": 6})
    attach(
        make_base().network, SuperLoRAConfig(**(fields or {"variant": "lora", "rank": 2}))
    ).save_pretrained(folder, card=card)
    return folder


def test_metadata(run):
    data = metadata_of(run, license="apache-2.0")
    assert data.library_name == "superlora-diffusion" and data.license == "apache-2.0"
    assert data.tags == ["superlora", "diffusion", "parameter-efficient", "lora"]
    assert data.base_model is None and data.datasets is None  # both are files of this machine
    assert metadata_of(run).license is None


def test_scores_are_results_that_say_what_they_depend_on(run):
    results = metadata_of(run).eval_results
    found = {result.metric_type: result.metric_value for result in results}
    assert found == {
        "fid": 12.5,
        "inception_score": 3.5,
        "is_distance": 0.25,
    }  # the adapter's, not its base's
    for result in results:
        assert result.dataset_name == "npz:data.npz" and result.dataset_split == "test"
        protocol = {"images": 8, "splits": 2, "seed": 0, "extractor": "digits"}
        assert result.metric_args == {**protocol, "extractor_hash": "abc123def456"}
    (run / "scores.json").unlink()
    assert metadata_of(run).eval_results is None and "It has not been scored" in card_of(run)


@pytest.mark.parametrize(
    ("base", "found"),
    [
        ("google/ddpm-cifar10-32", "google/ddpm-cifar10-32"),
        ("synthdigits-16", None),
        ("/a/folder", None),
        (None, None),
    ],
)
def test_a_base_is_named_where_it_is_on_the_hub(base, found, tmp_path):
    data = metadata_of(adapter(tmp_path / "a", base))
    assert data.base_model == found
    assert data.to_dict().get("base_model_relation") == (found and "adapter")


def test_a_folder_that_looks_like_an_id_is_no_base_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bases/mine").mkdir(parents=True)
    adapter(tmp_path / "a", "bases/mine")
    assert metadata_of("a").base_model is None and "bases/mine" not in card_of("a")


@pytest.mark.parametrize(
    ("name", "found"), [("cifar10", ["uoft-cs/cifar10"]), ("mnist-mini", None), ("npz:x", None)]
)
def test_official_data_is_named(name, found, tmp_path):
    assert metadata_of(adapter(tmp_path / "a", data={"name": name})).datasets == found


def test_numbers(run):
    text = card_of(run)
    size = (run / "adapter/adapter_model.safetensors").stat().st_size
    assert "# demo\n" in text
    assert "| Trained numbers | 512 (25 % of the weights they adapt) |" in text
    assert f"adapter_model.safetensors: {size:,} bytes" in text
    assert "| Targets | `to_q`, `to_v`: 8 layers, 2,048 weights |" in text
    assert "| Method | lora: variant lora, groups weight, fold none, rank 2 |" in text


def test_the_score_table(run):
    text = card_of(run)
    assert "| model | parameters | IS ± s.e. | IS distance ↓ | FID ↓ | accuracy |" in text
    assert "| base | 0 | - | - | 70.250 | 100.0% |" in text
    assert "| run | 512 | 3.500 ± 0.100 | 0.2500 | 12.500 | - |" in text
    assert "N 8, 2 splits, shuffled, seed 0, extractor digits abc123def456" in text
    assert text.count("FID from 8 images is rough.") == 1 and "(1)" not in text


def test_scores_of_two_protocols_are_numbered(run):
    record(run, "run", 512, n=16, fid=9.0)
    text = card_of(run)
    assert re.search(r"\| run \| 512 .* 12\.500 .*\| \(1\) \|", text)
    assert re.search(r"\| run \| 512 .* 9\.000 .*\| \(2\) \|", text)
    assert "- (1) N 8," in text and "- (2) N 16," in text and "Only rows of the same number" in text


def test_training_is_told_without_places(run, made):
    text = card_of(run)
    assert "superlora-diff train --config mine.yaml seed=5\n" in text
    for row in (
        "| `seed` | 5 |",
        "| `train.steps` | 6 |",
        "| `base.path` | base |",
        "| `data.name` | npz:data.npz |",
    ):
        assert row in text
    assert re.search(r"\| `train.learning_rate` \| 0\.\d+ \|", text)
    assert str(made) not in text and "/opt" not in text


def test_commands_are_those_that_trained_and_the_home_is_not_told(run, monkeypatch):
    file = run / "environment.json"
    monkeypatch.setenv("HOME", "/home/jane")
    words = {"superlora-diff": "train", "pytest": "tests", "-c": "sweep"}
    for program, verb in words.items():
        file.write_text(json.dumps({"command": [program, verb, "base.path=/home/jane/bases/b"]}))
        text = card_of(run)
        assert "jane" not in text
        assert ("superlora-diff train '" in text) == (verb == "train"), program
        assert ("```sh" in text) == (verb == "train")
    file.unlink()
    assert "```sh" not in card_of(run)


def test_where_data_lies_is_not_told(run):
    config = RunFolder(run).read_config()
    data = {**config.data.model_dump(), "root": "/srv/sets", "download": True, "name": "cifar10"}
    write_text(RunFolder(run).config, to_yaml(RunConfig(**{**config.model_dump(), "data": data})))
    content = read_content(str(run))
    text = make_card(content, "user/demo")
    assert "| `data.name` | cifar10 |" in text and "/srv" not in text and "data.download" not in text
    assert publishable(content.config, "demo")["data"]["root"] is None


def test_every_table_is_whole(run):
    """Each row of a table has as many cells as its head, whatever the names hold."""
    RunFolder(run).config.write_text(RunFolder(run).config.read_text().replace("data.npz", "a|b.npz"))
    lines = card_of(run).splitlines()
    heads = [index for index, line in enumerate(lines) if re.fullmatch(r"\|( --- \|)+", line)]
    assert len(heads) == 3 and any(r"a\|b.npz" in line for line in lines)
    for head in heads:
        cells = lines[head].count("|")
        assert lines[head - 1].replace(r"\|", "").count("|") == cells and lines[head - 2] == ""
        rows = lines[head + 1 : lines.index("", head)]
        assert len(rows) > 1 and all(row.replace(r"\|", "").count("|") == cells for row in rows)


def test_pictures_are_those_that_are_there(run):
    assert "![Samples with the adapter](samples/adapter.png)" in card_of(run)
    assert "samples/base.png" not in card_of(run)
    keep_scored_images(run, "base", 10)
    keep_scored_images(run, "run", 200)
    assert "| ![Samples of the base](samples/base.png) | ![Samples with the adapter]" in card_of(run)
    assert "samples/" not in card_of(run / "adapter")


def python_blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.S)


def execute(folder, made, tmp_path, capsys):
    """Run the card's blocks against the published folder in a hub's cache; returns what they print."""
    cache_by_hand(tmp_path / "cache", "user/demo", files_in(folder))
    blocks = python_blocks((folder / "README.md").read_text())
    assert all(len([line for line in block.splitlines() if line]) <= 10 for block in blocks)
    with hub_client(tmp_path / "cache"):
        for block in blocks:
            exec(compile(block.replace("path/to/base", str(made / "base")), "card", "exec"), {})
    return capsys.readouterr().out


def test_the_cards_python_runs(run, made, tmp_path, capsys):
    dry_run(str(run), PushRequest(repo_id="user/demo"), tmp_path / "out")
    printed = execute(tmp_path / "out", made, tmp_path, capsys)
    assert "samples/grid.png" in printed and "512 numbers adapt 8 layers" in printed
    assert (tmp_path / "empty/samples/grid.png").stat().st_size > 100


def test_the_cards_python_runs_on_the_embedded_base(tmp_path, capsys, monkeypatch):
    from superlora_diffusion.models.config import BaseSettings
    from superlora_diffusion.models.storage import load_base

    monkeypatch.chdir(tmp_path)
    base = load_base(BaseSettings())
    made = attach(base.network, SuperLoRAConfig(variant="lora", rank=1))
    made.save_pretrained(tmp_path / "a", card=AdapterCard(base=base.name))
    dry_run("a", PushRequest(repo_id="user/demo"), tmp_path / "out")
    assert "path/to/base" not in (tmp_path / "out/README.md").read_text()
    printed = execute(tmp_path / "out", tmp_path, tmp_path, capsys)
    assert f"{made.num_parameters:,} numbers adapt {len(made.targets)} layers" in printed


def test_a_peers_card_has_no_block_that_it_cannot_run(run, tmp_path):
    from superlora_diffusion.peers import attach_peer

    attach_peer(make_base().network, "bitfit", None, 0).save(
        tmp_path / "b", AdapterCard(base="synthdigits-16")
    )
    (block,) = python_blocks(card_of(tmp_path / "b"))
    assert "load_adapter" not in block and metadata_of(tmp_path / "b").tags[-1]
