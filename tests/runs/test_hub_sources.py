"""Adapters and bases by a hub id where ``sample``, ``eval-is`` and ``inspect`` take a source."""

from __future__ import annotations

import json

import pytest
from hub.fake_hub import FakeHub, Repo, cache_by_hand, files_in, hub_client
from tiny import make_base, run_config, write_base, write_data

from superlora_diffusion.errors import AdapterError, ConfigError, EvaluationError, HubError, RunError
from superlora_diffusion.evaluation.evaluate import Request, evaluate_run
from superlora_diffusion.peers import attach_peer
from superlora_diffusion.publishing.push import PushRequest, dry_run
from superlora_diffusion.runs.draw import draw, prepare_drawing
from superlora_diffusion.runs.inspection import inspect_adapter
from superlora_diffusion.runs.source import open_source
from superlora_diffusion.sampling.request import SampleRequest
from superlora_diffusion.training.loop import train


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base, data, a run, and a hub's cache with the published run, a base, a PEFT adapter and an empty repository."""
    folder = tmp_path_factory.mktemp("sources")
    write_base(folder / "base")
    write_data(folder / "data.npz")
    sampling = {"steps": 3, "sampler": "ddim", "guidance_scale": 2.0}
    train(run_config(folder, sampling=sampling), "cpu", quiet=True)
    dry_run(str(folder / "run"), PushRequest(repo_id="someone/tuned"), folder / "out")
    cache_by_hand(folder / "cache", "someone/tuned", files_in(folder / "out"))
    cache_by_hand(folder / "cache", "someone/trees", files_in(folder / "base"))
    peft = json.dumps({"peft_type": "LORA"}).encode()
    cache_by_hand(folder / "cache", "someone/peft", {"adapter_config.json": peft})
    cache_by_hand(folder / "cache", "someone/nothing", {"README.md": b"#"})
    return folder


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """An empty working folder, offline, with that cache. The published adapter's base lies beside it as ``base``."""
    (tmp_path / "base").symlink_to(place / "base")
    (tmp_path / "data.npz").symlink_to(place / "data.npz")
    monkeypatch.chdir(tmp_path)
    with hub_client(place / "cache"):
        yield tmp_path


def test_an_adapter_on_the_hub_is_opened_with_its_base_and_its_runs_settings(here, place):
    source = open_source("someone/tuned")
    mine = open_source(str(place / "run"))
    assert (source.name, source.base.name, source.weights) == ("tuned", "base", mine.weights)
    assert source.config.sampling == mine.config.sampling and source.config.sampling.steps == 3
    deltas = mine.adapter.deltas()
    assert all((source.adapter.deltas()[name] == delta).all() for name, delta in deltas.items())
    other = write_base(here / "other")
    assert open_source("someone/tuned", str(other)).base.name == str(other)


def test_a_base_on_the_hub_is_a_base(here):
    source = open_source("someone/trees")
    assert source.adapter is None and source.base.name == "someone/trees"
    with pytest.raises(ConfigError, match="goes with an adapter"):
        open_source("someone/trees", "other")


def test_a_folder_of_that_name_wins(here, place):
    (here / "someone").mkdir()
    (here / "someone/tuned").symlink_to(place / "base")
    assert open_source("someone/tuned").adapter is None
    (here / "someone/trees").symlink_to(place / "run")
    assert open_source("someone/trees").config.output == str(place / "run")


def test_what_is_no_source_is_told(here):
    with pytest.raises(AdapterError, match="by the PEFT library"):
        open_source("someone/peft")
    with pytest.raises(HubError, match=r"runs/demmo is no folder here.*HF_HUB_OFFLINE") as caught:
        open_source("runs/demmo")
    assert caught.value.reason == "offline"
    (here / "base").unlink()
    with pytest.raises(Exception, match=r"someone/tuned: .*can be given with --base"):
        open_source("someone/tuned")


def test_an_adapter_without_a_base_names_its_id(here, place, tmp_path_factory):
    files = files_in(place / "out")
    described = json.loads(files["adapter_config.json"])
    described["base"]["id"] = None
    files["adapter_config.json"] = json.dumps(described).encode()
    cache = tmp_path_factory.mktemp("cache")
    cache_by_hand(cache, "someone/lost", files)
    with hub_client(cache), pytest.raises(RunError, match=r"^someone/lost does not say which base"):
        open_source("someone/lost")


def test_telling_a_base_from_an_adapter_fetches_no_weights(place, tmp_path):
    hub = FakeHub()
    hub.repos["someone/trees"] = Repo()
    hub.repos["someone/trees"].commit(files_in(place / "base"))
    with hub_client(tmp_path, hub.url), pytest.raises(AdapterError, match="no adapter on the hub"):
        inspect_adapter("someone/trees")
    hub.close()
    assert not any("safetensors" in call for call in hub.requests)
    assert len(hub.requests) <= 5


def test_samples_of_an_adapter_on_the_hub_go_here(here):
    request = SampleRequest(count=4)
    drawing = prepare_drawing("someone/tuned", None, request, "cpu")
    assert (drawing.settings.steps, drawing.settings.guidance_scale) == (3, 2.0)
    written = draw(drawing)
    assert written["files"] == ["samples-tuned/grid.png"] and written["parameters"] == 512
    assert (here / "samples-tuned/grid.png").is_file()


def test_an_adapter_on_the_hub_is_inspected(here, place):
    found, mine = inspect_adapter("someone/tuned"), inspect_adapter(place / "run")
    assert found.settings == mine.settings and found.parameters == mine.parameters == 512
    weights = "adapter_model.safetensors"
    assert found.files[weights] == mine.files[weights] and found.base == "base"


def test_an_adapter_on_the_hub_is_scored_as_its_run_is(here, place):
    mine = evaluate_run(str(place / "run"), Request(), [])
    theirs = evaluate_run("someone/tuned", Request(), [])
    assert [record.name for record in theirs] == ["base", "tuned"]
    for one, other in zip(mine, theirs, strict=True):
        assert (one.fid, one.is_mean, one.n, one.parameters) == (
            other.fid,
            other.is_mean,
            other.n,
            other.parameters,
        )
    assert theirs[0].fid != theirs[1].fid
    assert len(json.loads((here / "scores-tuned/scores.json").read_text())) == 2
    assert not list((place / "cache").rglob("scores-*"))


def test_an_adapter_without_its_runs_config_is_scored_by_what_its_file_says(here, place, tmp_path_factory):
    files = files_in(place / "out")
    del files["run_config.yaml"]
    cache = tmp_path_factory.mktemp("cache")
    cache_by_hand(cache, "someone/bare", files)
    request = Request(images=8, splits=2, extractor="digits", sampling={"steps": 2}, only="adapter")
    with hub_client(cache):
        (record,) = evaluate_run("someone/bare", request, [])
        assert (record.name, record.n, record.parameters) == ("bare", 8, 512)
        described = json.loads(files["adapter_config.json"])
        cache_by_hand(
            cache, "someone/bare", {"adapter_config.json": json.dumps({**described, "data": {}}).encode()}
        )
        with pytest.raises(EvaluationError, match="does not say which data"):
            evaluate_run("someone/bare", request, [])


def test_what_cannot_be_scored(here, place):
    with pytest.raises(EvaluationError, match="is a base"):
        evaluate_run("someone/trees", Request(), [])
    with pytest.raises(EvaluationError, match="no run folder"):
        evaluate_run(str(place / "run/adapter"), Request(), [])


def test_a_peer_on_the_hub_keeps_its_frozen_state(here, tmp_path_factory):
    peer = attach_peer(make_base().network, "bitfit", None, 0)
    peer.save(here / "peer", None)
    config = json.loads((here / "peer/adapter_config.json").read_text())
    config["base"]["id"] = "base"
    (here / "peer/adapter_config.json").write_text(json.dumps(config))
    cache = tmp_path_factory.mktemp("cache")
    cache_by_hand(cache, "someone/peer", files_in(here / "peer"))
    with hub_client(cache):
        source = open_source("someone/peer")
    assert source.adapter.method == "bitfit" and source.folder.is_dir()
