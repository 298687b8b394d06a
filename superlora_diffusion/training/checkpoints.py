"""Checkpoints: what trains, its average, the optimiser, the place in the run. No pickle, no frozen base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import RunError
from ..files import write_folder_atomically

Tensors = dict[str, Tensor]


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, Tensors], state: dict[str, Any], keep: int
) -> Path:
    """Write ``folder/step-NNNNNN`` whole or not at all, then prune all but the newest ``keep``.

    Args:
        tensors: one safetensors file for each name ("weights", "ema", "optimizer").
        state: what JSON can hold; written last.
    """
    for leftover in folder.glob(".step-*"):  # of a process that was killed while writing
        shutil.rmtree(leftover, ignore_errors=True)
    final = folder / f"step-{step:06d}"

    def write(partial: Path) -> None:
        for name, group in tensors.items():
            plain = {key: value.detach().cpu().contiguous() for key, value in group.items()}
            save_file(plain, partial / f"{name}.safetensors")
        (partial / "state.json").write_text(json.dumps({"step": step, **state}, indent=2) + "\n")

    write_folder_atomically(final, write)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [
        path
        for path in folder.glob("step-*")
        if path.name[5:].isdecimal() and (path / "state.json").is_file()
    ]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Read back what :func:`save_checkpoint` wrote."""
    tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    return tensors, json.loads((path / "state.json").read_text())


@contextmanager
def explain_broken(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a checkpoint is read and put into place into a RunError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"checkpoint {path} is broken: {text}. Delete it to go on from the one before."
        ) from error


def pack_optimizer(state: dict[str, Any]) -> Tensors:
    """An optimiser's per-parameter state as flat tensors "index.name", or "index.group.name" where it is nested."""
    flat = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if not isinstance(value, dict):
                flat[f"{index}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
                continue
            for (
                key,
                part,
            ) in value.items():  # copies: some are shared by all parameters, which a file cannot hold
                flat[f"{index}.{name}.{key}"] = torch.as_tensor(part).clone()
    return flat


def unpack_optimizer(flat: Tensors, current: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`pack_optimizer`, with the parameter groups of the ``current`` state."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in flat.items():
        index, *groups, name = key.split(".")
        place = state.setdefault(int(index), {})
        for group in groups:
            place = place.setdefault(group, {})
        # Whole numbers alone were plain ones; the steps that torch counts are floating-point tensors.
        place[name] = value.item() if value.dtype == torch.int64 and value.dim() == 0 else value
    return {"state": state, "param_groups": current["param_groups"]}
