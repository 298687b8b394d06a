"""How a network is run: memory layout and compilation. Neither changes what it computes, but for rounding."""

from __future__ import annotations

import shutil

import torch
from torch import nn

from ..errors import BaseModelError


def speed_up(network: nn.Module, channels_last: bool, compile: bool) -> None:
    """Lay out and compile a network in place; names and parameters stay what they are. Doing it twice changes nothing.

    Raises:
        BaseModelError: if compilation is asked for and this machine has no C++ compiler for the CPU.
    """
    if channels_last:
        network.to(memory_format=torch.channels_last)
    if compile and network._compiled_call_impl is None:
        require_compiler(next(network.parameters()).device)
        network.compile()


def require_compiler(device: torch.device) -> None:
    """Raise BaseModelError where ``torch.compile`` could not build code for the device."""
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "cl"))):
        raise BaseModelError(
            "compile needs a C++ compiler for the CPU and found neither g++ nor clang++; install one "
            "(on Debian: apt-get install g++), or leave compile out."
        )
