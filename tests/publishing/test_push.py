"""What is published, and the push itself: by the real client to a hub on this machine."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hub.fake_hub import Repo, files_in, hub_client
from PIL import Image
from tiny import make_base

from superlora_diffusion import load_adapter
from superlora_diffusion.errors import AdapterError, ConfigError, HubError, RunError
from superlora_diffusion.publishing.push import PushRequest, dry_run, push

from .conftest import keep_scored_images

ALWAYS = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
OF_A_RUN = {*ALWAYS, "scores.json", "run_config.yaml", "samples/adapter.png"}


def dry(path, tmp_path, **request):
    dry_run(str(path), PushRequest(repo_id="user/demo", **request), tmp_path / "out")
    return files_in(tmp_path / "out")


def deltas_of(source):
    return load_adapter(make_base().network, source).deltas()


def test_nothing_but_what_is_meant_for_others(run, made, tmp_path):
    (run / "adapter/optimizer.safetensors").write_bytes(b"secret")
    (run / "adapter/notes.txt").write_text("secret")
    assert (run / "checkpoints").is_dir() and (run / "metrics.jsonl").is_file()
    files = dry(run, tmp_path)
    assert set(files) == OF_A_RUN
    for name, data in files.items():
        for place in (made, run, tmp_path):
            assert str(place).encode() not in data, (name, place)
    weights = "adapter_model.safetensors"
    assert files[weights] == (run / "adapter" / weights).read_bytes()


def test_an_adapter_on_its_own(run, tmp_path):
    assert set(dry(run / "adapter", tmp_path)) == ALWAYS


def test_what_is_published_is_told_but_for_places(run, tmp_path):
    files = dry(run, tmp_path)
    before = json.loads((run / "adapter/adapter_config.json").read_text())
    after = json.loads(files["adapter_config.json"])
    assert (after["base"].pop("id"), after["data"].pop("name")) == ("base", "npz:data.npz")
    del before["base"]["id"], before["data"]["name"]
    assert after == before
    scores = json.loads(files["scores.json"])
    assert [(row["name"], row["fid"], row["settings"]["base"]) for row in scores] == [
        ("base", 70.25, "base"),
        ("run", 12.5, "base"),
    ]


def test_base_and_adapter_beside_each_other(run, tmp_path):
    keep_scored_images(run, "base", 10)
    keep_scored_images(run, "run", 200)
    assert set(dry(run, tmp_path)) == {*OF_A_RUN, "samples/base.png"}
    for name, shade in (("base", 10), ("adapter", 200)):
        with Image.open(tmp_path / f"out/samples/{name}.png") as image:
            assert (np.asarray(image) == shade).all(axis=-1).mean() > 0.7
    keep_scored_images(run, "base", 10, labels=np.arange(8)[::-1] % 4)  # other classes: nothing to compare
    files = dry(run, tmp_path)
    assert "samples/base.png" not in files
    assert files["samples/adapter.png"] == (run / "samples/step-000006.png").read_bytes()


def test_what_cannot_be_published(run, tmp_path):
    with pytest.raises(AdapterError, match="no folder here"):
        dry("user/demo", tmp_path)
    (run / "adapter/adapter_config.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        dry(run, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_replaces_its_own_files_alone(run, tmp_path):
    dry(run, tmp_path)
    assert set(dry(run / "adapter", tmp_path)) == ALWAYS
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"holds other files \(thesis\.tex\)"):
        dry(run, tmp_path)
    assert (tmp_path / "out/thesis.tex").is_file()
    with pytest.raises(ConfigError, match="is a file"):
        dry_run(str(run), PushRequest(repo_id="user/demo"), tmp_path / "out/thesis.tex")


@pytest.mark.parametrize("repo_id", ["demo", "a/b/c", "user/na me", "../demo"])
def test_ids_are_checked_first(repo_id):
    with pytest.raises(ConfigError, match=r"repo_id: got .*user/name"):
        PushRequest(repo_id=repo_id)


def test_a_push_is_one_commit_of_what_the_dry_run_showed(run, tmp_path, hub):
    shown = dry(run, tmp_path)
    said = []
    with hub_client(tmp_path / "cache", hub.url):
        pushed = push(str(run), PushRequest(repo_id="user/demo"), said.append)
    (commit,) = hub.commits
    files = hub.repos["user/demo"].files()
    assert {name: data for name, data in files.items() if name != ".gitattributes"} == shown
    assert commit["header"]["summary"] == "Upload lora adapter of 512 parameters"
    assert commit["revision"] == "main" and not hub.repos["user/demo"].private
    assert pushed.place == f"{hub.url}/user/demo/commit/{hub.repos['user/demo'].branches['main']}"
    assert pushed.files == {name: len(data) for name, data in shown.items()}
    assert len(said) == 2 and hub.url in said[0] and f"{len(shown)} files" in said[1]


def test_what_was_pushed_is_loaded_by_its_id(run, tmp_path, hub):
    with hub_client(tmp_path / "cache", hub.url):
        push(str(run), PushRequest(repo_id="user/demo"))
        theirs = deltas_of("user/demo")
    mine = deltas_of(run / "adapter")
    assert all((theirs[name] == delta).all() for name, delta in mine.items())
    assert any(delta.abs().max() > 0 for delta in mine.values())


def test_branch_message_and_privacy(run, tmp_path, hub):
    request = PushRequest(repo_id="user/demo", private=True, revision="tuned", message="Mine")
    with hub_client(tmp_path / "cache", hub.url):
        push(str(run), request)
        push(str(run / "adapter"), request)
    repo = hub.repos["user/demo"]
    assert repo.private and set(repo.files()) == {".gitattributes"}
    assert set(repo.files("tuned")) == {".gitattributes", *ALWAYS}
    assert [commit["header"]["summary"] for commit in hub.commits] == ["Mine", "Mine"]


def test_a_second_push_removes_what_is_ours_and_gone(run, tmp_path, hub):
    with hub_client(tmp_path / "cache", hub.url):
        push(str(run), PushRequest(repo_id="user/demo"))
        repo = hub.repos["user/demo"]
        repo.commit({**repo.files(), "samples/mine.png": b"1", "notes.md": b"2"})
        push(str(run / "adapter"), PushRequest(repo_id="user/demo"))
    assert set(repo.files()) == {".gitattributes", *ALWAYS, "samples/mine.png", "notes.md"}
    assert set(hub.commits[1]["deleted"]) == OF_A_RUN - ALWAYS


def test_a_public_repository_does_not_become_private_silently(run, tmp_path, hub):
    hub.repos["user/demo"] = Repo()
    hub.repos["user/demo"].commit({})
    with (
        hub_client(tmp_path / "cache", hub.url),
        pytest.raises(HubError, match="already and public") as caught,
    ):
        push(str(run), PushRequest(repo_id="user/demo", private=True))
    assert not hub.commits and f"{hub.url}/user/demo/settings" in str(caught.value)


def test_refusals_are_told(run, tmp_path, hub):
    request = PushRequest(repo_id="user/demo")
    hub.refuse["POST /api/repos/create"] = (401, "", "Invalid username or password.")
    with (
        hub_client(tmp_path / "cache", hub.url),
        pytest.raises(HubError, match=r"may not \(401.*hf auth login"),
    ):
        push(str(run), request)
    with hub_client(tmp_path / "cache"), pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        push(str(run), request)
    with (
        hub_client(tmp_path / "cache", "http://127.0.0.1:9"),
        pytest.raises(HubError, match="cannot be reached"),
    ):
        push(str(run), request)
    assert not hub.commits
