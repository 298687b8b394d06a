"""An adapter's updates from its folder alone: no network is built, no base is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..errors import AdapterError, ConfigError
from .arrays import follow_from_base
from .autograd import Settings, generate_unit
from .places import sizes_of
from .plan import AdapterPlan, make_plan
from .projection import Arrays, draw_arrays
from .reading import CONFIG, WEIGHTS
from .storage import (
    Stored,
    check_arrays,
    check_numbers,
    read_arrays,
    read_stored,
    read_tensors,
)
from .units import make_units


def deltas_of_folder(folder: Path | str) -> dict[str, Tensor]:
    """{target name: dW} of a stored SuperLoRA adapter, in module order: as ``load_adapter(...).deltas()``.

    Args:
        folder: an adapter folder.

    Returns:
        fp32 on the CPU, each in its weight's shape, scale included.

    Raises:
        AdapterError: for a missing or broken file, another method's folder, numbers that do not fit the config, a
            projection that this machine draws differently, or one that follows from the base (singular).
    """
    folder = Path(folder)
    found = dict(iterate_deltas(folder))
    return {target.name: found[target.name] for target in read_stored(folder).targets}


def iterate_deltas(folder: Path | str) -> Iterator[tuple[str, Tensor]]:
    """(target name, dW) of a stored adapter, unit by unit: no more than the largest unit is held at once.

    The order is that of the groups, not of the modules.

    Args:
        folder: an adapter folder.

    Raises:
        AdapterError: as :func:`deltas_of_folder` does.
    """
    folder = Path(folder)
    stored = read_stored(folder)
    plan = _plan(stored, folder)
    numbers = read_tensors(folder / WEIGHTS)
    expected = {tensor.name: tensor.shape for group in plan.groups for tensor in group.tensors}
    check_numbers(expected, numbers, folder / WEIGHTS)
    tensors = {name: value.float() for name, value in numbers.items()}
    arrays = _arrays(stored, plan, folder)
    scale = stored.config.scale * _run_scale(stored, folder)
    for unit in make_units(plan, [torch.Size(shape) for shape in stored.shapes]):
        settings = Settings(unit, arrays, stored.config.projection, scale, None)
        with torch.no_grad():
            pieces = generate_unit(settings, tensors)
        for index, piece in zip(unit.members, pieces, strict=True):
            yield stored.targets[index].name, piece


def _plan(stored: Stored, folder: Path) -> AdapterPlan:
    for target, shape in zip(stored.targets, stored.shapes, strict=True):
        if sizes_of(target.name, shape) != target[1:]:
            raise AdapterError(
                f"{folder / CONFIG} is broken: target {target.name!r} of shape {list(shape)} cannot be "
                f"{target.out_features} x {target.in_features}."
            )
    try:
        return make_plan(stored.config, stored.targets)
    except ConfigError as error:
        raise AdapterError(f"{folder / CONFIG} is broken: {error}") from error


def _run_scale(stored: Stored, folder: Path) -> float:
    scale = stored.run_scale
    if not isinstance(scale, int | float) or not math.isfinite(scale):
        raise AdapterError(f"{folder / CONFIG} is broken: run_scale {scale!r} is not a finite number.")
    return scale


def _arrays(stored: Stored, plan: AdapterPlan, folder: Path) -> list[Arrays]:
    kind, seed = stored.config.projection, stored.config.seed
    if stored.has_arrays:
        arrays = read_arrays(folder)
    elif follow_from_base(kind):
        raise AdapterError(
            f"the updates of {folder} lie along its base's singular directions, and its folder alone does not tell "
            "them: load the base and use load_adapter(network, folder).deltas(), or save it with store_projection=True."
        )
    else:
        arrays = [draw_arrays(kind, group.grid, group.m, seed, group.index) for group in plan.groups]
    check_arrays(stored, arrays, folder)
    return arrays
