"""Layout and compilation of a network: asked for, done once, and nothing computed otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import make_base

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.errors import BaseModelError
from superlora_diffusion.models import execution
from superlora_diffusion.models.execution import speed_up
from superlora_diffusion.sampling.config import SamplingSettings
from superlora_diffusion.sampling.producer import generate

CLASSES = np.array([0, 1, 2, 3])


def draw(base, **settings):
    return generate(base, CLASSES, 4, SamplingSettings(steps=3, **settings)).astype(int)


def test_channels_last_lays_out_kernels_and_draws_the_same_images():
    base = make_base()
    plain = draw(base)
    assert np.ptp(plain) > 50
    kernel = base.network.conv_in.weight
    assert not kernel.is_contiguous(memory_format=torch.channels_last)
    turned = draw(base, channels_last=True)
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(turned - plain).max() <= 1
    assert list(base.network.state_dict()) == list(make_base().network.state_dict())


def test_nothing_is_changed_that_was_not_asked_for():
    network = make_base().network
    speed_up(network, channels_last=False, compile=False)
    assert network._compiled_call_impl is None
    assert network.conv_in.weight.is_contiguous()


def test_bf16_is_near_and_not_the_same():
    base = make_base()
    plain, rounded = draw(base), draw(base, precision="bf16")
    assert not np.array_equal(plain, rounded)
    assert np.abs(plain - rounded).mean() < 2
    assert base.network.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo's own
def test_a_compiled_network_with_an_adapter_draws_the_same_images_and_is_compiled_once(monkeypatch):
    torch._dynamo.reset()
    compile_with = torch.nn.Module.compile
    # The same graphs as by default, without the minute in which C++ is built from them.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_with(self, backend="aot_eager"))
    monkeypatch.setattr(execution.shutil, "which", lambda name: "/usr/bin/g++")
    base = make_base()
    adapter = attach(base.network, SuperLoRAConfig(variant="lorta"))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.3)
    plain = draw(base)
    assert np.abs(plain - draw(make_base())).max() > 5, "the adapter does something"
    compiled = draw(base, compile=True)
    built = base.network._compiled_call_impl
    assert built is not None
    assert np.abs(compiled - plain).max() <= 1
    with torch.compiler.set_stance("fail_on_recompile"):
        assert np.array_equal(draw(base, compile=True), compiled)
    assert base.network._compiled_call_impl is built


def test_without_a_compiler_it_is_said(monkeypatch):
    monkeypatch.setattr(execution.shutil, "which", lambda name: None)
    with pytest.raises(BaseModelError, match=r"C\+\+ compiler.*apt-get install g\+\+"):
        draw(make_base(), compile=True)
