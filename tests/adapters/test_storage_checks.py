"""What a stored adapter proves about itself: its projection's checksum and its base's fingerprint."""

from __future__ import annotations

import copy
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from superlora_diffusion import attach, load_adapter

from .folder import CONFIG, WEIGHTS, edit, refuses, same_deltas, saved, spoiled
from .networks import NETWORKS, mixed_net

everywhere = pytest.mark.parametrize("network", NETWORKS)


class TestProjectionChecksum:
    @pytest.mark.parametrize("setting", ["tucker", "fastfood", "tanh"])  # shuffle and both fastfoods
    def test_a_tampered_checksum_is_refused(self, setting, tmp_path):
        base, _, _ = saved(tmp_path, setting=setting)
        edit(tmp_path, "checksum", spoiled)
        assert "checksum" in refuses(base, tmp_path)

    @pytest.mark.parametrize("setting", ["tucker", "fastfood", "tanh"])
    def test_another_seed_is_refused(self, setting, tmp_path):
        base, _, _ = saved(tmp_path, setting=setting)
        edit(tmp_path, "seed", lambda seed: seed + 1)
        assert "checksum" in refuses(base, tmp_path)

    @pytest.mark.parametrize("call", ["randperm", "randn", "randint"])
    def test_another_generator_is_refused_unless_the_arrays_were_stored(self, call, tmp_path, monkeypatch):
        """A torch whose generator draws other numbers: the checksum tells, the stored arrays help."""
        base, _model, adapter = saved(tmp_path / "plain", setting="fastfood")
        adapter.save_pretrained(tmp_path / "stored", store_projection=True)
        real = getattr(torch, call)
        monkeypatch.setattr(torch, call, lambda *args, **options: real(*args, **options).flip(0))
        assert "checksum" in refuses(copy.deepcopy(base), tmp_path / "plain")
        loaded = load_adapter(copy.deepcopy(base), tmp_path / "stored")
        assert same_deltas(loaded, adapter)

    def test_last_bits_are_tolerated(self, tmp_path, monkeypatch):
        """Another machine's Gaussians may differ in the last bit; that is the same projection."""
        base, _, adapter = saved(tmp_path, setting="fastfood")
        real = torch.randn
        monkeypatch.setattr(torch, "randn", lambda *args, **options: real(*args, **options) * (1 + 2**-22))
        loaded = load_adapter(base, tmp_path)
        for name, delta in loaded.deltas().items():
            torch.testing.assert_close(delta, adapter.deltas()[name], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("setting", ["tucker", "fastfood"])
    def test_spoiled_stored_arrays_are_refused(self, setting, tmp_path):
        base, _, _ = saved(tmp_path, setting=setting, store_projection=True)
        (extra,) = set(os.listdir(tmp_path)) - {WEIGHTS, CONFIG}
        assert extra.endswith(".safetensors")
        arrays = load_file(tmp_path / extra)
        save_file({name: array.flip(0).contiguous() for name, array in arrays.items()}, tmp_path / extra)
        assert "checksum" in refuses(base, tmp_path)


class TestFingerprint:
    def test_another_base_warns_and_loads(self, tmp_path):
        base, _model, adapter = saved(tmp_path)
        with torch.no_grad():
            nn.init.normal_(base.blocks[1].to_v.weight)
        with pytest.warns(UserWarning, match=r"(?i)base"):
            loaded = load_adapter(base, tmp_path)
        assert same_deltas(loaded, adapter)

    @pytest.mark.parametrize("change", ["stem", "head", "target"])
    def test_a_change_anywhere_warns(self, change, tmp_path):
        base, _, _ = saved(tmp_path)
        with torch.no_grad():
            if change == "target":
                base.blocks[0].to_q.weight.mul_(1.5)
            else:
                nn.init.normal_(getattr(base, change).weight)
        with pytest.warns(UserWarning, match=r"(?i)base"):
            load_adapter(base, tmp_path)

    @everywhere
    def test_half_precision_copies_share_it(self, network, tmp_path):
        base, _model, adapter = saved(tmp_path / "full", network)
        load_adapter(copy.deepcopy(base).half(), tmp_path / "full")  # a warning would be an error
        half = copy.deepcopy(base).half()
        attach(half, adapter.config).save_pretrained(tmp_path / "half")
        load_adapter(copy.deepcopy(base), tmp_path / "half")
        load_adapter(copy.deepcopy(base).half().float(), tmp_path / "full")

    def test_another_seed_of_the_same_architecture_warns(self, tmp_path):
        saved(tmp_path)
        torch.manual_seed(1234)
        other = mixed_net()
        for parameter in other.parameters():
            nn.init.normal_(parameter, std=0.1)
        with pytest.warns(UserWarning, match=r"(?i)base"):
            load_adapter(other, tmp_path)
