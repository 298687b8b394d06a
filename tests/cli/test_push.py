"""``push``, and the other verbs by a hub id, as a person would type them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest
from hub.fake_hub import FakeHub, cache_by_hand, files_in, hub_client
from tiny import make_base, run_config
from typed import call

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters import AdapterCard
from superlora_diffusion.cli import push as verb
from superlora_diffusion.runs.folder import RunFolder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a finished run ``runs/demo``: config and adapter."""
    run = RunFolder(tmp_path / "runs/demo")
    run.claim(run_config(tmp_path))
    adapter = attach(make_base().network, SuperLoRAConfig(variant="lora", rank=2))
    adapter.save_pretrained(run.adapter, card=AdapterCard(base=str(tmp_path / "base")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub():
    fake = FakeHub()
    yield fake
    fake.close()


def test_a_dry_run_lists_what_it_wrote(here):
    result = call("push", "runs/demo", "user/demo", "--dry-run", "--out", "out")
    assert result.exit_code == 0, result.stderr
    files = files_in(here / "out")
    assert set(files) == {"README.md", "adapter_config.json", "adapter_model.safetensors", "run_config.yaml"}
    assert all(f"{len(data):,} bytes  {name}" in result.stdout for name, data in files.items())
    assert result.stdout.endswith("Would be uploaded: out\n") and "--license" in result.stderr
    assert call("push", "runs/demo", "user/demo", "--dry-run").exit_code == 0
    assert (here / "push-demo/README.md").is_file()


def test_json_and_quiet(here):
    result = call("push", "runs/demo", "user/demo", "--dry-run", "--out", "out", "--json")
    sizes = {name: len(data) for name, data in files_in(here / "out").items()}
    assert json.loads(result.stdout) == {
        "repo_id": "user/demo",
        "uploaded": False,
        "place": "out",
        "files": sizes,
    }
    result = call("push", "runs/demo", "user/demo", "--dry-run", "--out", "out", "-q")
    assert (result.stdout, result.stderr) == ("Would be uploaded: out\n", "")


def test_a_push_says_what_it_does_and_where_it_is(here, hub):
    with hub_client(here / "cache", hub.url):
        result = call("push", "runs/demo", "user/demo", "--private", "--message", "Mine", "--license", "mit")
    assert result.exit_code == 0, result.stderr
    assert f"Asking for {hub.url}/user/demo" in result.stderr and "Uploading 4 files" in result.stderr
    assert f"Uploaded: {hub.url}/user/demo/commit/" in result.stdout
    repo = hub.repos["user/demo"]
    assert repo.private and b"license: mit\n" in repo.files()["README.md"]
    assert hub.commits[0]["header"]["summary"] == "Mine"


def test_a_whole_process_pushes_by_the_environment(here, hub):
    """Nothing patched: the address, the token and the cache as people set them."""
    words = [
        sys.executable,
        "-m",
        "superlora_diffusion",
        "push",
        "runs/demo",
        "user/demo",
        "--json",
        "--revision",
        "b",
    ]
    ours = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "hf_mine",
        "HF_HOME": str(here / "home"),
    }
    done = subprocess.run(words, env={**os.environ, **ours}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["uploaded"] is True and hub.tokens == {"Bearer hf_mine"}
    assert "adapter_model.safetensors" in hub.repos["user/demo"].files("b")


def test_what_is_wrong_is_said_without_a_traceback(here, hub):
    for words, code, text in (
        (("runs/gone", "user/demo", "--dry-run"), 1, "no folder here"),
        (("runs/demo", "demo", "--dry-run"), 2, "user/name"),
        (("runs/demo", "user/demo", "--out", "x"), 2, "--dry-run"),
        (("runs/demo", "user/demo", "--license", ""), 2, "license"),
    ):
        result = call("push", *words)
        assert result.exit_code == code and result.stdout == "" and text in result.stderr
    hub.refuse["POST *"] = (403, "", "not yours")
    with hub_client(here / "cache", hub.url):
        result = call("push", "runs/demo", "user/demo")
    assert (
        result.exit_code == 1
        and "error: repository 'user/demo': the hub says that you may not" in result.stderr
    )


def test_the_examples_run_as_printed(here, hub):
    lines = [line.strip() for line in verb._HELP.splitlines()]
    examples = [
        shlex.split(line)[1:] for line in lines if line.startswith("superlora-diff ") and "push" in line
    ]
    assert len(examples) == 3
    with hub_client(here / "cache"):  # offline: the dry runs ask nobody
        assert [call(*words).exit_code for words in examples if "--dry-run" in words] == [0, 0]
    with hub_client(here / "cache", hub.url):
        assert call(*examples[2]).exit_code == 0


def test_inspect_by_an_id(here):
    call("push", "runs/demo", "user/demo", "--dry-run", "--out", "out")
    cache_by_hand(here / "cache", "user/demo", files_in(here / "out"))
    with hub_client(here / "cache"):
        result = call("inspect", "user/demo")
        assert result.exit_code == 0 and "512 numbers train" in result.stdout and result.stderr == ""
        assert "HF_HUB_OFFLINE" in call("inspect", "user/gone").stderr
