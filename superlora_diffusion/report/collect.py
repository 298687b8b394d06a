"""From folders to runs: everything a report says of a run is read here, once. Nothing found is dropped."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import RunError, SuperLoRAError
from ..evaluation.accuracy_records import read_accuracies
from ..evaluation.records import ScoreRecord, read_scores
from ..runs.config import RunConfig
from ..runs.family import family_of
from ..runs.folder import RunFolder
from ..sweeps.folder import CARD, SweepFolder

SCORED, UNSCORED, UNFINISHED, BASE = "scored", "no scores", "not finished", "a base"
_PARTS = {"checkpoints", "adapter", "base", "samples"}  # of a run folder; a run itself may be called so
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Run:
    """One run folder, as far as it goes."""

    path: Path
    status: str
    """``scored``, ``no scores``, ``not finished``, ``a base``, or in words what is wrong with it."""
    setting: str
    seed: int | None = None
    family: str = ""
    target: str = ""
    """The data that the run learns."""
    parameters: int | None = None
    config: RunConfig | None = None
    records: tuple[ScoreRecord, ...] = ()
    """Scores of the run itself, not of its base."""
    training: Curve = field(default_factory=list)
    validation: Curve = field(default_factory=list)
    grid: Path | None = None
    race: tuple[tuple[float, float], ...] = ()
    """(learning rate, validation loss) of each try in a sweep's search."""
    sweep: str = ""
    command: str = ""

    @property
    def val_loss(self) -> float | None:
        """The last validation loss."""
        return self.validation[-1][1] if self.validation else None


@dataclass(frozen=True)
class Collection:
    """What was found: runs in the order of their paths, and the records of bases."""

    runs: tuple[Run, ...]
    bases: tuple[ScoreRecord, ...]


def collect(paths: Sequence[str | Path]) -> Collection:
    """Read all run folders that the paths are or contain, at any depth.

    Raises:
        RunError: a path is missing, or holds no run at all.
    """
    runs: dict[Path, Run] = {}
    bases: list[ScoreRecord] = []
    for path in (Path(path).expanduser() for path in paths):
        if not path.is_dir():
            raise RunError(f"{path} is no folder; expected run folders, or folders that contain some.")
        found = list(_walk(path, set()))
        here = [folder for folder in found if (folder / "config.yaml").is_file()]
        failed = [failure for folder in found for failure in _failures(folder)]
        if not here and not failed:
            raise RunError(
                f"{path} holds no run: neither it nor a folder in it has a config.yaml. "
                "Train one with superlora-diff train, or several with superlora-diff sweep."
            )
        for folder in found:
            bases += [record for record in _scores(folder)[0] if record.parameters == 0]
        for run in [*map(read_run, here), *failed]:
            runs[run.path.resolve()] = _merge(runs.get(run.path.resolve()), run)
    return Collection(tuple(runs.values()), tuple(_distinct(bases)))


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """The folder and those in it, by name; not a search's short runs, nor the parts of a run."""
    if folder.resolve() in seen:  # a link back to a folder above
        return
    seen.add(folder.resolve())
    yield folder
    skipped = {"race", *(_PARTS if (folder / "config.yaml").is_file() else ())}
    with suppress(OSError):
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and entry.name not in skipped and not entry.name.startswith("."):
                yield from _walk(entry, seen)


def _merge(old: Run | None, new: Run) -> Run:
    """What a sweep says of a failed cell goes into the cell's run, unless that was finished since."""
    if old is None or new.config is not None:
        return new
    return replace(old, status=new.status) if old.status == UNFINISHED else old


def _failures(folder: Path) -> Iterator[Run]:
    """Cells and races that a sweep has recorded as failed."""
    sweep = SweepFolder(folder)
    if not sweep.config.is_file():
        return
    for name, entry in _read_json(sweep.state).items():
        if isinstance(entry, dict) and entry.get("status") == "failed":
            lines = str(entry.get("error") or "no reason recorded").strip().splitlines()
            yield Run(sweep.cell(name), f"failed: {lines[-1]}", setting=name, sweep=folder.name)


def read_run(folder: Path) -> Run:
    """One run folder. What is missing is empty, what is broken is told by ``status``."""
    files, card = RunFolder(folder), _read_json(folder / CARD)
    setting = str(card.get("setting") or folder.resolve().name)
    try:
        config = files.read_config()
    except (SuperLoRAError, OSError, UnicodeDecodeError) as error:
        return Run(folder, f"config.yaml cannot be read: {_first_line(error)}", setting)
    records, problem = _scores(folder)
    own = tuple(record for record in records if record.parameters > 0)
    training, validation = read_curves(files.metrics)
    return Run(
        path=folder,
        status=problem or _status(files, config, records, own),
        setting=setting,
        seed=config.seed,
        family=family_of(config),
        target=config.data.name,
        parameters=own[-1].parameters if own else _counted(files, card),
        config=config,
        records=own,
        training=training,
        validation=validation,
        grid=find_grid(files.samples),
        race=_race(card),
        sweep=str(card.get("sweep") or ""),
        command=str(card.get("command") or f"superlora-diff train --config {shlex.quote(str(files.config))}"),
    )


def _status(
    files: RunFolder, config: RunConfig, records: Sequence[ScoreRecord], own: Sequence[ScoreRecord]
) -> str:
    if not files.is_finished(config):
        return UNFINISHED
    if own:
        return SCORED
    return BASE if config.base.build is not None and records else UNSCORED


def _counted(files: RunFolder, card: dict[str, Any]) -> int | None:
    """The parameters of a run without scores."""
    count = card.get("parameters") or _read_json(files.adapter / "adapter_config.json").get("parameters")
    return count if isinstance(count, int) and count > 0 else None


def _scores(folder: Path) -> tuple[list[ScoreRecord], str | None]:
    """Those of drawn images, then those of a classifier."""
    found: list[ScoreRecord] = []
    for name, read in (("scores.json", read_scores), ("accuracy.json", _read_accuracies)):
        if (folder / name).is_file():
            try:
                found += read(folder / name)
            except SuperLoRAError as error:
                return [], f"{name} cannot be read: {_first_line(error)}"
    return found, None


def _read_accuracies(path: Path) -> list[ScoreRecord]:
    return [record.as_score() for record in read_accuracies(path)]


def _race(card: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    tries = card.get("race")
    pairs = [
        (item.get("learning_rate"), item.get("validation_loss"))
        for item in (tries if isinstance(tries, list) else [])
        if isinstance(item, dict)
    ]
    return tuple((float(rate), float(loss)) for rate, loss in pairs if _is_number(rate) and _is_number(loss))


def read_curves(path: Path) -> tuple[Curve, Curve]:
    """(training, validation) losses by step from a ``metrics.jsonl``; a line cut off by a crash is skipped."""
    training: Curve = []
    validation: Curve = []
    with suppress(OSError):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            line = _parse_object(text)
            for name, curve in (("loss", training), ("validation_loss", validation)):
                if _is_number(line.get(name)) and _is_number(line.get("step")):
                    curve.append((int(line["step"]), float(line[name])))
    return training, validation


def find_grid(samples: Path) -> Path | None:
    """The run's last preview, else the newest grid that ``sample`` drew from it."""
    if previews := sorted(samples.glob("step-*.png"), key=lambda path: (len(path.name), path.name)):
        return previews[-1]
    return max(samples.glob("*/grid.png"), key=lambda path: path.stat().st_mtime, default=None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none."""
    with suppress(OSError, UnicodeDecodeError):
        return _parse_object(path.read_text(encoding="utf-8"))
    return {}


def _parse_object(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        value = json.loads(text)
        return value if isinstance(value, dict) else {}
    return {}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _distinct(records: Iterable[ScoreRecord]) -> list[ScoreRecord]:
    found: list[ScoreRecord] = []
    for record in records:
        if record not in found:
            found.append(record)
    return found
