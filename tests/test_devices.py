"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from superlora_diffusion.devices import resolve_device
from superlora_diffusion.errors import ConfigError


def test_the_cpu_is_always_there_and_auto_finds_something():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(None) == resolve_device("auto")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu cuda"])
def test_unknown_devices_are_quoted(name):
    with pytest.raises(ConfigError, match=r"is unknown; cpu, cuda, cuda:N, mps or auto") as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "meta"])
def test_devices_that_are_not_there_say_what_is(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"is not there; this machine has: cpu\."):
        resolve_device(name)
    assert resolve_device("auto") == torch.device("cpu")


def test_a_number_beyond_the_devices_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("auto") == torch.device("cuda")
    with pytest.raises(ConfigError, match=r"'cuda:2' is not there; this machine has 2 CUDA devices"):
        resolve_device("cuda:2")
