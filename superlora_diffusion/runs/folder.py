"""The run folder: where each thing lies, whether it is finished, and the lock while it is in use."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import ConfigError, RunError
from ..files import write_json, write_text
from .config import RunConfig
from .loading import differences, parse_yaml, to_yaml

_LIBRARIES = (
    "superlora-diffusion",
    "torch",
    "diffusers",
    "accelerate",
    "transformers",
    "torch-fidelity",
    "peft",
    "lycoris-lora",
    "numpy",
)


class RunFolder:
    """Paths of one run (design: "On disk")."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.prior = self.path / "prior"
        self.adapter = self.path / "adapter"
        self.base = self.path / "base"
        self.best = self.path / "best"
        self.scores = self.path / "scores.json"
        self.accuracy = self.path / "accuracy.json"
        self.environment = self.path / "environment.json"

    def result(self, config: RunConfig) -> Path:
        """The folder that a finished run leaves: its adapter, or for method full its base."""
        return self.base if config.method == "full" else self.adapter

    def is_finished(self, config: RunConfig) -> bool:
        """Whether the result is there. Each result's last file appears last."""
        of_base = "config.json" if config.classifies else "model_index.json"
        last = of_base if config.method == "full" else "adapter_config.json"
        return (self.result(config) / last).is_file()

    def read_config(self) -> RunConfig:
        """The resolved config the run was made with.

        Raises:
            RunError: if this is no run folder.
        """
        if not self.config.is_file():
            raise RunError(
                f"{self.path} is no run folder: it has no config.yaml. Train one with superlora-diff train."
            )
        return RunConfig(**parse_yaml(self.config.read_text(encoding="utf-8"), str(self.config)))

    def check(self, config: RunConfig) -> None:
        """Make sure that a folder which is there already was made with the same config.

        Its place may differ, and so may what only says how a finished run is sampled and scored.

        Raises:
            RunError: with the differences, if it was made with another config.
        """
        if not self.config.is_file():
            return
        old = parse_yaml(self.config.read_text(encoding="utf-8"), str(self.config))
        with suppress(ConfigError):  # values that the config did not have yet stood at their defaults
            old = parse_yaml(to_yaml(RunConfig(**old)), str(self.config))
        new = parse_yaml(to_yaml(config), "config")
        changed = differences(what_trains(old), what_trains(new))
        if changed:
            raise RunError(
                f"{self.path} was made with another config:\n  "
                + "\n  ".join(changed)
                + "\nUse another folder (output=...), or delete this one to start over."
            )

    def renew(self, config: RunConfig) -> None:
        """Write a config that passed :meth:`check` in the place of the old one, where they differ."""
        if self.config.is_file() and self.config.read_text(encoding="utf-8") != to_yaml(config):
            write_text(self.config, to_yaml(config))

    def claim(self, config: RunConfig) -> None:
        """Write the config into a new run folder; called once everything it names was found."""
        if not self.config.is_file():
            write_json(self.environment, environment())
            write_text(self.config, to_yaml(config))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            RunError: if another process holds it, or the folder cannot be made.
        """
        busy = f"{self.path} is in use by another process. Wait for it, or use another folder."
        with hold_folder(self.path, "run folder", busy):
            yield


@contextmanager
def hold_folder(folder: Path, kind: str, busy: str) -> Iterator[None]:
    """Make a folder and hold it for this process by a file lock.

    Args:
        folder: what to hold.
        kind: what it is called in messages.
        busy: the message where another process holds it.

    Raises:
        RunError: if another process holds it, or it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{kind} {folder} cannot be made: {error}") from error
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(busy) from None
    except OSError as error:
        raise RunError(f"{kind} {folder} cannot be written: {error}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # removed while it is held: no other process can have taken it in between
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def what_trains(values: dict[str, Any]) -> dict[str, Any]:
    """A resolved config's values without those that a finished run does not depend on."""
    scoring = {key: None for key in ("images", "splits", "seed", "extractor", "extractor_path", "metrics")}
    evaluation = values.get("evaluation") or {}
    return {**values, "output": None, "sampling": None, "evaluation": {**evaluation, **scoring}}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Versions and platform, as written beside a run."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "command": sys.argv,
        "libraries": library_versions(),
    }


def library_versions() -> dict[str, str | None]:
    """Versions of what numbers may depend on; None for what is not installed."""
    return {name: _version(name) for name in _LIBRARIES}


def trim_metrics(path: Path, last_step: int) -> None:
    """Drop the lines after ``last_step``, so that a resumed run does not tell the same steps twice."""
    if path.is_file():
        lines = [line for line in path.read_text().splitlines() if _step_of(line) <= last_step]
        write_text(path, "".join(f"{line}\n" for line in lines))


def _step_of(line: str) -> float:
    """The step a line tells of; a line that a crash cut off is later than all."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
