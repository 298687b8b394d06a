"""``load_adapter`` by a hub id, and networks given inside a pipeline."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import DDPMPipeline
from hub.fake_hub import FakeHub, Repo, cache_by_hand, files_in, hub_client
from tiny import make_base

from superlora_diffusion import SuperLoRAConfig, attach, load_adapter
from superlora_diffusion.errors import AdapterError

from .folder import same_deltas, saved
from .networks import NETWORKS


@pytest.fixture
def stored(tmp_path):
    """A filled adapter in a folder, and that folder's files."""
    _, _, adapter = saved(tmp_path / "made", setting="fastfood", store_projection=True)
    return adapter, files_in(tmp_path / "made")


@pytest.fixture
def hub():
    fake = FakeHub()
    yield fake
    fake.close()


def load(source, **options):
    return load_adapter(NETWORKS["mixed"](), source, **options)


def refused(source, match, **options):
    network = NETWORKS["mixed"]()
    names = list(dict(network.named_modules()))
    with pytest.raises(AdapterError, match=match) as caught:
        load_adapter(network, source, **options)
    assert list(dict(network.named_modules())) == names
    return str(caught.value)


def test_an_id_is_loaded_from_the_cache(stored, tmp_path, monkeypatch):
    adapter, files = stored
    monkeypatch.chdir(tmp_path)
    cache_by_hand(tmp_path / "cache", "someone/trees", files)
    with hub_client(tmp_path / "cache"):
        assert same_deltas(load("someone/trees"), adapter)


def test_a_folder_of_that_name_wins(stored, tmp_path, monkeypatch):
    adapter, files = stored
    _, _, other = saved(tmp_path / "someone" / "trees", setting="group")
    monkeypatch.chdir(tmp_path)
    cache_by_hand(tmp_path / "cache", "someone/trees", files)
    with hub_client(tmp_path / "cache"):
        loaded = load("someone/trees")
        assert same_deltas(loaded, other) and not same_deltas(loaded, adapter)
        refused("someone/trees", "no revision 'main'", revision="main")


def test_revision_and_subfolder(stored, tmp_path, hub):
    adapter, files = stored
    _, _, other = saved(tmp_path / "other", setting="group")
    repo = hub.repos["someone/trees"] = Repo()
    first = repo.commit(files)
    repo.commit({f"in/side/{name}": data for name, data in files_in(tmp_path / "other").items()})
    repo.commit(files_in(tmp_path / "other"), "tuned")
    with hub_client(tmp_path / "cache", hub.url):
        assert same_deltas(load("someone/trees", revision=first), adapter)
        assert same_deltas(load("someone/trees", revision="tuned"), other)
        assert same_deltas(load("someone/trees", subfolder="in/side"), other)
        text = refused("someone/trees", "holds no adapter")
        assert "adapter_config.json" in text and "subfolder" in text
        assert "in/adapter_config.json" in refused("someone/trees", "holds no adapter", subfolder="in")
        refused("someone/trees", "'gone'", revision="gone")
    assert same_deltas(load(tmp_path, subfolder="other"), other)
    for subfolder in ("../made", "/made", "a/../../b"):
        refused(tmp_path / "other", "leads out", subfolder=subfolder)


def test_only_the_adapters_files_are_fetched(stored, tmp_path, hub):
    adapter, files = stored
    assert len(files) == 3
    extra = {"optimizer.safetensors": b"0", "README.md": b"#", "samples/adapter.png": b"0"}
    hub.repos["someone/trees"] = Repo()
    hub.repos["someone/trees"].commit({**files, **extra})
    with hub_client(tmp_path / "cache", hub.url):
        assert same_deltas(load("someone/trees"), adapter)
    (snapshot,) = (tmp_path / "cache" / "models--someone--trees" / "snapshots").iterdir()
    assert files_in(snapshot) == files


def test_weights_of_another_library_are_not_fetched(tmp_path, hub):
    hub.repos["someone/peft"] = Repo()
    config = json.dumps({"peft_type": "LORA", "r": 8}).encode()
    hub.repos["someone/peft"].commit({"adapter_config.json": config, "adapter_model.safetensors": b"large"})
    with hub_client(tmp_path / "cache", hub.url):
        refused("someone/peft", r"by the PEFT library \(LORA\)")
    assert not any("safetensors" in call for call in hub.requests)


def test_the_own_login_is_used_and_kept_nowhere(stored, tmp_path, hub):
    hub.repos["someone/trees"] = Repo()
    hub.repos["someone/trees"].commit(stored[1])
    with hub_client(tmp_path / "cache", hub.url) as patch:
        patch.setenv("HF_TOKEN", "hf_mine")
        load("someone/trees")
    assert hub.tokens == {"Bearer hf_mine"}
    assert not any(b"hf_mine" in data for data in files_in(tmp_path).values())


def test_what_the_hub_does_not_give(tmp_path, hub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.repos["someone/secret"] = Repo(gated=True)
    hub.repos["someone/secret"].commit({"adapter_config.json": b"{}"})
    with hub_client(tmp_path / "cache", hub.url):
        text = refused("someone/secret", "gated")
        assert f"{hub.url}/someone/secret" in text and "hf auth login" in text
        assert "someone/bushes is no folder here" in refused("someone/bushes", "no such repository")
    with hub_client(tmp_path / "cache"):
        refused("someone/trees", "HF_HUB_OFFLINE")
    refused("not-an-id", "is no adapter folder")


def test_a_cache_without_the_weights_is_told(stored, tmp_path):
    files = {name: data for name, data in stored[1].items() if name == "adapter_config.json"}
    cache_by_hand(tmp_path / "cache", "someone/trees", files)
    with hub_client(tmp_path / "cache"):
        refused("someone/trees", r"adapter_(model|projection)\.safetensors")


class Pipe:
    """What pipelines of diffusers look like from outside."""

    def __init__(self, **parts):
        vars(self).update(parts)


@pytest.mark.parametrize("name", ["unet", "transformer"])
def test_a_pipelines_denoiser_is_taken(name, stored, tmp_path):
    network = NETWORKS["mixed"]()
    pipe = Pipe(**{"text_encoder": torch.nn.Linear(2, 2), "unet": None, name: network})
    adapter = load_adapter(pipe, tmp_path / "made")
    assert same_deltas(adapter, stored[0])
    assert any(module is adapter for module in network.modules())


def test_attach_takes_a_real_pipeline():
    base = make_base()
    pipe = DDPMPipeline(unet=base.network, scheduler=base.scheduler)
    adapter = attach(pipe, SuperLoRAConfig(variant="lora", rank=2))
    assert any(module is adapter for module in pipe.unet.modules()) and adapter.num_parameters == 512


def test_anything_else_is_refused(tmp_path):
    for model in (Pipe(), Pipe(unet="text"), None, "someone/trees"):
        with pytest.raises(AdapterError, match=r"cannot be adapted.*unet or transformer"):
            attach(model, SuperLoRAConfig())
        with pytest.raises(AdapterError, match=r"cannot be adapted"):
            load_adapter(model, tmp_path)
