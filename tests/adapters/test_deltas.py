"""Updates from a folder alone, against those of the adapter attached to its network."""

from __future__ import annotations

import copy

import pytest
import torch

from superlora_diffusion import SuperLoRAConfig, attach, load_adapter
from superlora_diffusion.adapters import deltas_of_folder
from superlora_diffusion.adapters.deltas import iterate_deltas
from superlora_diffusion.adapters.variants import VARIANTS
from superlora_diffusion.errors import AdapterError
from superlora_diffusion.peers import attach_peer

from .folder import CONFIG, WEIGHTS, edit, saved, spoiled
from .networks import NETWORKS, SETTINGS, TARGETS, fill, small_unet

CASES = [(network, setting) for network in NETWORKS for setting in SETTINGS if setting != "singular"]


def assert_same(found, expected) -> None:
    assert list(found) == list(expected), "names in module order"
    for name, delta in expected.items():
        assert found[name].dtype == torch.float32 and found[name].shape == delta.shape, name
        assert torch.equal(found[name], delta), name
        assert delta.abs().max() > 1e-3, "an update that is all zeros would show nothing"


@pytest.mark.parametrize(("network", "setting"), CASES)
def test_they_are_those_of_the_loaded_adapter(network, setting, tmp_path):
    base, _, adapter = saved(tmp_path, network, setting)
    adapter.set_scale(-0.5)
    adapter.save_pretrained(tmp_path)
    loaded = load_adapter(copy.deepcopy(base), tmp_path)
    found = deltas_of_folder(tmp_path)
    assert_same(found, loaded.deltas())
    assert not any(delta.requires_grad for delta in found.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_of_every_variant(variant, tmp_path):
    model = small_unet()
    adapter = attach(model, SuperLoRAConfig(variant=variant, targets=TARGETS["unet"]))
    fill(adapter)
    adapter.save_pretrained(tmp_path, store_projection=variant == "spectral")
    assert_same(deltas_of_folder(str(tmp_path)), adapter.deltas())


def test_updates_along_the_directions_of_a_base_are_refused_without_it(tmp_path):
    saved(tmp_path, "mixed", "singular")
    with pytest.raises(
        AdapterError, match=r"along its base's singular directions.*load_adapter.*store_projection"
    ):
        deltas_of_folder(tmp_path)


def test_stored_arrays_are_used(tmp_path, monkeypatch):
    _, _, adapter = saved(tmp_path, "mixed", "fastfood", store_projection=True)

    def refuse(*_):
        raise AssertionError("drawn, though they are stored")

    monkeypatch.setattr("superlora_diffusion.adapters.deltas.draw_arrays", refuse)
    assert_same(deltas_of_folder(tmp_path), adapter.deltas())


def test_one_by_one_they_are_the_same(tmp_path):
    _, _, adapter = saved(tmp_path, "mixed", "tanh")
    found = list(iterate_deltas(tmp_path))
    assert len(found) == len(adapter.targets)
    expected = adapter.deltas()
    assert all(torch.equal(delta, expected[name]) for name, delta in found)


def test_a_projection_drawn_differently_is_refused(tmp_path):
    saved(tmp_path, "mixed", "fastfood")
    edit(tmp_path, "projection_checksum", spoiled)
    with pytest.raises(AdapterError, match=r"the fixed projection of .* differs from the one drawn here"):
        deltas_of_folder(tmp_path)


def test_numbers_that_do_not_fit_are_refused(tmp_path):
    saved(tmp_path, "mixed", "lora")
    saved(tmp_path / "other", "mixed", "group")
    (tmp_path / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(AdapterError, match=r"does not hold what its config says"):
        deltas_of_folder(tmp_path)


def test_what_is_missing_or_broken_is_said(tmp_path):
    with pytest.raises(AdapterError, match=r"has no adapter_config.json"):
        deltas_of_folder(tmp_path)
    saved(tmp_path, "mixed", "lora")
    edit(tmp_path, "in_features", lambda value: value + 1)
    with pytest.raises(AdapterError, match=rf"{CONFIG} is broken: target .* cannot be"):
        deltas_of_folder(tmp_path)
    saved(tmp_path, "mixed", "lora")
    (tmp_path / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(AdapterError, match=r"cannot be read"):
        deltas_of_folder(tmp_path)
    saved(tmp_path, "mixed", "lora")
    edit(tmp_path, "run_scale", lambda _: "much")
    with pytest.raises(AdapterError, match=rf"{CONFIG} is broken"):
        deltas_of_folder(tmp_path)


def test_a_peer_is_refused_by_name(tmp_path):
    attach_peer(small_unet(), "bitfit", None, 0).save(tmp_path)
    with pytest.raises(AdapterError, match=r"no SuperLoRA adapter but method 'bitfit'"):
        deltas_of_folder(tmp_path)
