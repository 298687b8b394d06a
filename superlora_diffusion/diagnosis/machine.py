"""What this machine computes with, and where it keeps things."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

_SECONDS_FOR_SIZES = 0.5
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}
"""How processors call it in /proc/cpuinfo."""


def list_devices() -> dict[str, Any]:
    """Processor, CUDA devices and Apple's, as torch sees them.

    Raises:
        ImportError, OSError: if torch is not there or does not load.
    """
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "cpu": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "fast_bf16": cpu_has_bf16(),
        },
        "cuda": [_cuda_device(index) for index in range(cuda)],
        "cuda_build": torch.version.cuda or torch.version.hip,
        "mps": torch.backends.mps.is_available(),
    }


def _cuda_device(index: int) -> dict[str, Any]:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    major, minor = torch.cuda.get_device_capability(index)
    return {
        "name": torch.cuda.get_device_name(index),
        "memory": total,
        "free": free,
        "capability": f"{major}.{minor}",
        "fast_bf16": major >= 8,  # before Ampere bf16 is computed in fp32's units
    }


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Whether the processor itself multiplies bf16; None where the system does not say."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), None)
    return None if flags is None else bool(_BF16_FLAGS & set(flags.partition(":")[2].split()))


def find_compiler() -> dict[str, str | None]:
    """What torch.compile builds with: a C++ compiler for processors, triton for GPUs."""
    from .packages import version_of

    names = [os.environ.get("CXX"), "g++", "clang++", "c++", "cl" if os.name == "nt" else None]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    return {"cxx": found, "triton": version_of("triton")}


def describe_folder(path: Path) -> dict[str, Any]:
    """Whether a folder is there or could be made, can be written, and how much its disk has left."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    return {
        "path": str(path),
        "exists": path.is_dir(),
        "writable": _can_write(there),
        "free": shutil.disk_usage(there).free,
    }


def _can_write(folder: Path) -> bool:
    """By writing: rights alone say nothing of a file system that is mounted read-only."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def measure_folder(path: Path, seconds: float = _SECONDS_FOR_SIZES) -> tuple[int, bool]:
    """Bytes in a folder, and whether all of it was counted in the time given. Links count nothing."""
    end, size, waiting = time.monotonic() + seconds, 0, [path]
    while waiting and time.monotonic() < end:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return size, not waiting


def describe_hub() -> dict[str, Any]:
    """The hub's cache and switches. The login token is looked for and never shown.

    Raises:
        ImportError: if huggingface_hub is not there.
    """
    from huggingface_hub import constants, get_token

    size, counted = measure_folder(Path(constants.HF_HUB_CACHE))
    return {
        **describe_folder(Path(constants.HF_HUB_CACHE)),
        "bytes": size,
        "counted": counted,
        "offline": constants.HF_HUB_OFFLINE,
        "logged_in": get_token() is not None,
    }
