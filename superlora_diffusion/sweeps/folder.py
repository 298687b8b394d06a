"""The sweep's folder: where each thing lies, and what happened to each cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from ..files import write_json, write_text
from ..runs.folder import hold_folder
from .config import SweepConfig

CARD = "cell.json"
"""What a sweep writes beside each of its cells."""


class SweepFolder:
    """Paths of one sweep. Every cell is an ordinary run folder."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        self.config = self.path / "sweep.yaml"
        self.state = self.path / "state.json"
        self.bases = self.path / "bases"
        """Scores of the bases, which all cells share."""

    def cell(self, name: str) -> Path:
        """The run folder of a cell."""
        return self.path / "cells" / name

    def race(self, setting: str) -> Path:
        """Short runs of the learning-rate search, and race.json with what they found."""
        return self.path / "race" / setting

    def claim(self, sweep: SweepConfig) -> None:
        """Write the resolved sweep beside its cells; a later call may add cells or change them."""
        text = yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False)
        write_text(self.config, text)

    def read_state(self) -> dict[str, dict[str, Any]]:
        """What is known of each job by name: status, error, seconds."""
        with suppress(OSError, ValueError):
            return json.loads(self.state.read_text(encoding="utf-8"))
        return {}

    def write_state(self, state: dict[str, dict[str, Any]]) -> None:
        write_json(self.state, state)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the sweep for this process.

        Raises:
            RunError: if another process holds it, or the folder cannot be made.
        """
        busy = f"sweep {self.path} is being run by another process. Wait for it, or stop it."
        with hold_folder(self.path, "sweep folder", busy):
            yield
