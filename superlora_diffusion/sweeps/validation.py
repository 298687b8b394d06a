"""Checking a file, run or sweep, without loading anything: every fault at once. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError, nearest
from ..runs.config import RunConfig
from ..runs.loading import load_config, packaged_configs, packaged_sweeps, parse_override, read_values
from .cells import Cell, list_cells
from .config import SweepConfig, load_sweep, read_sweep

Kind = Literal["run", "sweep"]
_SWEEP_ONLY = SweepConfig.model_fields.keys() - RunConfig.model_fields.keys()
_RUN_ONLY = RunConfig.model_fields.keys() - SweepConfig.model_fields.keys()

_AXES = {"settings", "grid", "zip"}


@dataclass(frozen=True)
class Verdict:
    """What a file is, and what is wrong with it."""

    file: str
    """The name or path that was given."""
    kind: Kind
    faults: tuple[tuple[str, str], ...]
    """(dotted path, text) pairs; the path is empty where the fault is the file's as a whole."""
    cells: int | None = None
    """How many runs a valid sweep has."""

    @property
    def valid(self) -> bool:
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        faults = [{"path": path, "text": text} for path, text in self.faults]
        return {**asdict(self), "faults": faults, "valid": self.valid}


def find_any(name: str) -> Path:
    """The file of a run's config or of a sweep, given by path or by packaged name.

    Raises:
        ConfigError: if there is neither.
    """
    path, packaged = Path(name).expanduser(), {**packaged_configs(), **packaged_sweeps()}
    if path.is_file():
        return path
    if name in packaged:
        return packaged[name]
    raise ConfigError(
        f"{name!r} is neither a file nor a packaged config or sweep.{nearest(name, packaged)} "
        f"Packaged: {', '.join(packaged)}."
    )


def kind_of(values: dict[str, Any]) -> Kind:
    """By its top-level names: a sweep has axes, or more names that are a sweep's alone than names of a run."""
    if values.keys() & _AXES:
        return "sweep"
    return "sweep" if len(values.keys() & _SWEEP_ONLY) > len(values.keys() & _RUN_ONLY) else "run"


def validate(name: str, overrides: Iterable[str] = ()) -> Verdict:
    """Check a run's config or a sweep, with ``key.path=value`` overrides as train or sweep take them.

    Raises:
        ConfigError: if there is no such file, or it is no YAML mapping.
    """
    kind = kind_of(read_values(find_any(name)))
    good, faults = _sift(overrides)
    if kind == "run":
        faults += _faults_of(lambda: _check_run(name, good))
        return Verdict(name, kind, tuple(faults))
    cells: list[Cell] = []
    faults += _faults_of(lambda: cells.extend(list_cells(load_sweep(name, good))))
    faults += _faults_beside(name, faults) if faults else _faults_of_peers(cells)
    return Verdict(name, kind, tuple(faults), None if faults else len(cells))


def _sift(overrides: Iterable[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The overrides that can be read, and the faults of the others."""
    good, faults = [], []
    for text in overrides:
        found = _faults_of(lambda text=text: parse_override(text))
        faults += found
        if not found:
            good.append(text)
    return good, faults


def _faults_beside(name: str, faults: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is wrong with a sweep's settings apart from these faults: those of the file without the faulty names."""
    faulty = {path.partition(".")[0] for path, _ in faults}
    values = {key: value for key, value in read_sweep(name).items() if key not in faulty}
    try:
        sweep = SweepConfig(**{"output": "sweep", **values})
    except ConfigError:
        return []
    return [fault for fault in _faults_of(lambda: list_cells(sweep)) if fault not in faults]


def _faults_of_peers(cells: list[Cell]) -> list[tuple[str, str]]:
    """What the libraries say of their settings: one cell a setting is enough."""
    settings = {cell.setting: cell.config for cell in cells if cell.config.is_peer}
    faults = []
    for name, config in settings.items():
        faults += [
            (f"setting {name}: {path}", text) for path, text in _faults_of(lambda c=config: _check_peer(c))
        ]
    return faults


def _check_run(name: str, overrides: list[str]) -> None:
    _check_peer(load_config(name, overrides))


def _check_peer(config: RunConfig) -> None:
    if config.is_peer:
        from ..peers import check_peer

        check_peer(config.method, config.peer_settings)


def _faults_of(check: Any) -> list[tuple[str, str]]:
    try:
        check()
    except ConfigError as error:
        return list(error.faults) or [("", str(error))]
    return []
