"""Downloads by the real client, from a hub on this machine or from a cache made by hand, and refusals in words."""

from __future__ import annotations

import importlib

import huggingface_hub
import pytest
from huggingface_hub import errors

from superlora_diffusion.errors import HubError
from superlora_diffusion.hub.download import download_snapshot, is_hub_id
from superlora_diffusion.hub.explaining import explained

from .fake_hub import FakeHub, Repo, cache_by_hand, files_in, hub_client

http = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])  # the client's HTTP library


@pytest.fixture
def hub():
    fake = FakeHub()
    yield fake
    fake.close()


def refused(reason, repo_id="someone/trees", revision=None):
    with pytest.raises(HubError) as caught:
        download_snapshot(repo_id, revision, ["*.json"], "adapter")
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"adapter {repo_id!r}: ") and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", ["user/name", "a-b_c/d.e-f_g", "U1/2", "runs/demo"])
def test_ids(text):
    assert is_hub_id(text)
    assert is_hub_id(f"a/{'b' * 96}")


@pytest.mark.parametrize("text", ["a/-b", "a/b.", "user/name\n", f"a/{'b' * 97}"])
def test_what_is_nearly_an_id(text):
    assert not is_hub_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "a/b/c",
        "./name",
        "../name",
        "/name",
        "~/name",
        "a/",
        "a b/c",
        "a/..",
        "a--b/c",
        "a/b.git",
        "npz:a/b",
        "",
    ],
)
def test_what_is_no_id(text):
    assert not is_hub_id(text)


def test_files_that_match_are_fetched_once(hub, tmp_path):
    repo = hub.repos["someone/trees"] = Repo()
    sha = repo.commit({"a.json": b"{}", "in/b.json": b"[]", "large.bin": b"0" * 99})
    with hub_client(tmp_path, hub.url):
        folder = download_snapshot("someone/trees", None, ["a.json", "in/*"])
        assert files_in(folder) == {"a.json": b"{}", "in/b.json": b"[]"} and folder.name == sha
        asked = len(hub.requests)
        assert download_snapshot("someone/trees", sha, ["a.json"]) == folder
    assert not any("large" in call or "GET /someone" in call for call in hub.requests[asked:])
    with hub_client(tmp_path):  # what was fetched is there without a network
        assert files_in(download_snapshot("someone/trees", None, ["a.json"]))["a.json"] == b"{}"


def test_a_branch_and_a_commit_are_other_states(hub, tmp_path):
    repo = hub.repos["someone/trees"] = Repo()
    first = repo.commit({"a.json": b"1"})
    repo.commit({"a.json": b"2"})
    repo.commit({"a.json": b"3"}, "tuned")
    with hub_client(tmp_path, hub.url):
        for revision, data in ((None, b"2"), (first, b"1"), ("tuned", b"3")):
            assert (download_snapshot("someone/trees", revision, ["*"]) / "a.json").read_bytes() == data
        text = refused("revision", revision="gone")
        assert "'gone'" in text and f"{hub.url}/someone/trees" in text


def test_missing_and_gated(hub, tmp_path):
    hub.repos["someone/secret"] = Repo(gated=True)
    hub.repos["someone/secret"].commit({"a.json": b"{}"})
    with hub_client(tmp_path, hub.url):
        text = refused("missing")
        assert f"{hub.url}/someone/trees" in text and "hf auth login" in text
        text = refused("gated", "someone/secret")
        assert f"Accept its terms on {hub.url}/someone/secret" in text and "hf auth login" in text


def test_refusals_by_status(hub, tmp_path):
    hub.refuse["GET /api/models/*"] = (403, "", "only members may")
    with hub_client(tmp_path, hub.url):
        text = refused("unauthorised")
        assert "403" in text and "hf auth login" in text
        hub.refuse["GET /api/models/*"] = (418, "", "teapot")
        assert "HfHubHTTPError" in refused("refused")


def test_offline_and_not_in_the_cache(tmp_path):
    with hub_client(tmp_path):
        text = refused("offline", revision="tuned")
    assert "HF_HUB_OFFLINE" in text and str(tmp_path) in text and "'tuned'" in text


def test_no_network_is_not_called_offline(tmp_path):
    with hub_client(tmp_path, "http://127.0.0.1:9"):
        text = refused("unreachable")
    assert "HF_HUB_OFFLINE" not in text and "ConnectError" in text and "Check the network" in text


def test_a_cache_made_by_hand_is_read(tmp_path):
    made = cache_by_hand(tmp_path, "someone/trees", {"a.json": b"main"})
    cache_by_hand(tmp_path, "someone/trees", {"a.json": b"tuned"}, "tuned", "2" * 40)
    with hub_client(tmp_path):
        assert download_snapshot("someone/trees", None, ["*"]).samefile(made)
        for revision in ("tuned", "2" * 40):
            assert (download_snapshot("someone/trees", revision, ["*"]) / "a.json").read_bytes() == b"tuned"


def test_the_clients_own_errors_are_explained(tmp_path, monkeypatch):
    """Each class as the client raises it, at the place where it raises it."""
    request = http.Request("GET", "https://huggingface.co/api/models/someone/trees")
    response = http.Response(403, request=request)
    cases = {
        "gated": errors.GatedRepoError("403 Client Error.\n\nCannot access gated repo", response=response),
        "missing": errors.RepositoryNotFoundError("404", response=response),
        "revision": errors.RevisionNotFoundError("404", response=response),
        "invalid": errors.HFValidationError("Repo id must use alphanumeric chars"),
        "unreachable": http.ConnectTimeout("timed out"),
        "unauthorised": errors.HfHubHTTPError("403 Forbidden: no", response=response),
    }
    for reason, error in cases.items():

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with hub_client(tmp_path, "http://hub"):
            refused(reason)


def test_errors_of_ours_pass_and_interruptions_too():
    ours = HubError("as it is", "refused")
    with pytest.raises(HubError) as caught, explained("adapter", "a/b"):
        raise ours
    assert caught.value is ours
    with pytest.raises(KeyboardInterrupt), explained("adapter", "a/b"):
        raise KeyboardInterrupt
