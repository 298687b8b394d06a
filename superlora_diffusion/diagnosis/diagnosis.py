"""The whole of it: what is there, and what has to be put right."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from . import machine
from .packages import Extra, Package, list_extras, python_fault, required_packages


@dataclass(frozen=True)
class Diagnosis:
    """What doctor found. ``faults`` must be put right; ``notes`` are worth knowing."""

    packages: list[Package]
    extras: list[Extra]
    devices: dict[str, Any] | None
    compiler: dict[str, str | None]
    cache: dict[str, Any] | None
    hub: dict[str, Any] | None
    here: dict[str, Any]
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything by name."""
        return {
            "version": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            **{key: value for key, value in asdict(self).items() if key not in ("packages", "extras")},
            "packages": [{**asdict(package), "fits": package.fits} for package in self.packages],
            "extras": [
                {
                    "name": extra.name,
                    "for": extra.note,
                    "complete": extra.complete,
                    "missing": [package.name for package in extra.packages if not package.fits],
                    "install": extra.pip_line,
                }
                for extra in self.extras
            ],
        }


def diagnose() -> Diagnosis:
    """Look at everything; what cannot be looked at is a fault, never an exception."""
    faults: list[str] = []
    uninstalled = "this package is not installed (pip install . in its folder)"
    packages = _try(required_packages, uninstalled, faults) or []
    if packages:
        faults += [fault for fault in (python_fault(), *(package.fault for package in packages)) if fault]
    devices = _try(machine.list_devices, "torch does not load", faults)
    cache = _try(_describe_cache, "the cache cannot be read", faults)
    hub = _try(machine.describe_hub, "huggingface_hub does not load", faults)
    found = Diagnosis(
        packages=packages,
        extras=list_extras() if packages else [],
        devices=devices,
        compiler=machine.find_compiler(),
        cache=cache,
        hub=hub,
        here=machine.describe_folder(Path.cwd()),
        faults=faults,
    )
    found.notes.extend(_notes(found))
    return found


def _try(look: Any, what: str, faults: list[str]) -> Any:
    try:
        return look()
    except (ImportError, OSError, RuntimeError) as error:
        faults.append(f"{what}: {error}")
        return None


def _describe_cache() -> dict[str, Any]:
    from ..data.cache import cache_root, list_cache

    kinds = [{"name": shelf.name, "files": shelf.files, "bytes": shelf.size} for shelf in list_cache()]
    return {**machine.describe_folder(cache_root()), "kinds": kinds}


def _notes(found: Diagnosis) -> list[str]:
    notes = []
    if found.cache and not found.cache["writable"]:
        notes.append(
            f"The cache {found.cache['path']} cannot be written: name another folder in SUPERLORA_CACHE."
        )
    if not found.here["writable"]:
        notes.append("This folder cannot be written: runs need output=FOLDER elsewhere.")
    if found.here["free"] < 2e9:
        notes.append("Less than 2 GB are left on this disk: checkpoints of large bases need more.")
    if found.compiler["cxx"] is None:
        notes.append(
            "No C++ compiler (CXX, g++, clang++): train.compile=true will not work on the processor."
        )
    if found.devices and found.devices["cuda"] and found.compiler["triton"] is None:
        notes.append("No triton: train.compile=true will not work on the GPU: pip install triton")
    return notes
