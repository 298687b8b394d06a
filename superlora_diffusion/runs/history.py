"""What a run says of how its adapter was trained and how it scored. Whatever is missing is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import SuperLoRAError
from .config import RunConfig
from .folder import RunFolder
from .published import RUN_CONFIG, read_published


class History(NamedTuple):
    """Of one run, of its best step, or what of a run was published with its adapter."""

    folder: Path
    training: dict[str, Any]
    """Settings of the training, by their names in the config."""
    outcome: dict[str, Any]
    """Last losses and the seconds of the training steps; of the best step, which it is and by what."""
    scores: tuple[dict[str, Any], ...]
    """Records of the scores that hold for these weights (``adapter``) and for the base (0 parameters)."""
    problems: tuple[str, ...]
    """What there is and cannot be read, or does not belong to these weights."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        lists = {"scores": list(self.scores), "problems": list(self.problems)}
        return {**self._asdict(), "folder": str(self.folder), **lists}


def history_of(adapter: Path, weights: str) -> History | None:
    """What is known of an adapter's run; None for one that lies by itself.

    Args:
        adapter: its folder.
        weights: sha256 of its weights, by which scores are told from those of other weights.
    """
    run = find_run(adapter)
    if run is not None:
        return read_history(run, adapter, weights)
    try:
        published = read_published(adapter)
    except (SuperLoRAError, OSError, UnicodeDecodeError) as error:
        return History(adapter, {}, {}, (), (f"{adapter / RUN_CONFIG} cannot be read: {_first_line(error)}",))
    return None if published is None else History(adapter, _training(published), {}, (), ())


def find_run(adapter: Path) -> RunFolder | None:
    """The run whose final or best adapter a folder is; None for one that lies by itself."""
    run = RunFolder(adapter.parent)
    ours = adapter.resolve() in (run.adapter.resolve(), run.best.resolve())
    return run if ours and run.config.is_file() else None


def read_history(run: RunFolder, adapter: Path, weights: str) -> History:
    """What the run of an adapter says of it.

    Args:
        run: its folder.
        adapter: the folder of its final or best adapter.
        weights: sha256 of the adapter's weights, by which scores are told from those of other weights.
    """
    training: dict[str, Any] = {}
    problems: list[str] = []
    try:
        training = _training(run.read_config())
    except (SuperLoRAError, OSError, UnicodeDecodeError) as error:
        problems.append(f"{run.config} cannot be read: {_first_line(error)}")
    scores, told = _scores(run.scores, weights)
    outcome = (
        _best(run.best / "best.json") if adapter.resolve() == run.best.resolve() else _outcome(run.metrics)
    )
    return History(run.path, training, outcome, scores, tuple([*problems, *told]))


def _training(config: RunConfig) -> dict[str, Any]:
    """The section ``train``, without what is off or not given."""
    train = config.train.model_dump(mode="json")
    given = {name: value for name, value in train.items() if value is not None and value is not False}
    return {"learning_rate": config.learning_rate, **given}


def _outcome(metrics: Path) -> dict[str, Any]:
    """The last losses; the seconds of the steps, from the speeds between lines of metrics."""
    found: dict[str, Any] = {}
    seconds, reached = 0.0, 0
    for line in _lines(metrics):
        for name in ("loss", "validation_loss"):
            if name in line:
                found[name] = line[name]
        speed, step = line.get("steps_per_second"), line.get("step")
        if isinstance(speed, int | float) and speed > 0 and isinstance(step, int):
            seconds, reached = seconds + max(0, step - reached) / speed, step
    return {**found, **({"seconds": round(seconds, 1)} if seconds else {})}


def _best(path: Path) -> dict[str, Any]:
    """Which step the best one was, and by what."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: found[name] for name in ("step", "by", "score") if name in found}
    return {}


def _lines(metrics: Path) -> Iterator[dict[str, Any]]:
    """The objects of a ``metrics.jsonl``; a line that a crash cut off is skipped."""
    with suppress(OSError, UnicodeDecodeError):
        for text in metrics.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line


def _scores(path: Path, weights: str) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """The records of these weights and of bases, and what is wrong with the others."""
    if not path.is_file():
        return (), []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list) or not all(
            isinstance(entry.get("parameters"), int) for entry in entries
        ):
            raise ValueError("it is no list of score records")
    except (OSError, ValueError, AttributeError) as error:
        return (), [f"{path} cannot be read: {_first_line(error)}"]
    ours = [entry for entry in entries if entry["parameters"] == 0 or _is_of(entry, weights)]
    others = len(entries) - len(ours)
    told = [f"{path} also has scores of other weights ({others:,}), which are left out"] if others else []
    if all(entry["parameters"] == 0 for entry in ours):
        ours = []  # a base alone is no comparison
    return tuple({key: value for key, value in entry.items() if value is not None} for entry in ours), told


def _is_of(entry: dict[str, Any], weights: str) -> bool:
    """Whether a record is of these weights; one that does not say of which is believed."""
    settings = entry.get("settings")
    told = settings.get("weights") if isinstance(settings, dict) else None
    return not told or weights.startswith(str(told))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
