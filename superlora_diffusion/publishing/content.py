"""What is published of a run or an adapter folder: read once, written as a folder that is uploaded as it stands."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..adapters.reading import CONFIG, FILES, read_adapter_config
from ..errors import AdapterError
from ..evaluation.accuracy_records import AccuracyRecord, read_accuracies
from ..evaluation.records import ScoreRecord, read_scores, write_scores
from ..files import write_json, write_text
from ..runs.config import RunConfig
from ..runs.folder import RunFolder
from ..runs.inspection import Inspection, find_adapter, inspect_adapter
from ..runs.published import RUN_CONFIG, public_name, publishable
from .pictures import ADAPTER_PICTURE, BASE_PICTURE, find_pictures

README, SCORES, ACCURACY = "README.md", "scores.json", "accuracy.json"
PUBLISHED = (README, *FILES, SCORES, ACCURACY, RUN_CONFIG, ADAPTER_PICTURE, BASE_PICTURE)
"""Every name that may be published. Nothing else of a run ever is."""


@dataclass(frozen=True)
class Content:
    """An adapter and what its run says of it."""

    name: str
    adapter: Path
    """Its folder."""
    inspection: Inspection
    run: RunFolder | None = None
    """The run it is the result of; None for an adapter folder on its own."""
    config: RunConfig | None = None
    records: tuple[ScoreRecord, ...] = ()
    """Scores of the adapter and of its base."""
    accuracies: tuple[AccuracyRecord, ...] = ()
    """The same of a classifier."""
    command: str = ""
    """What trained it, as it was typed; empty where that is not known."""
    pictures: dict[str, Callable[[Path], object]] = field(default_factory=dict)
    """Writers of pictures by the name they are published under."""


def read_content(path: str) -> Content:
    """Read a finished run folder, or an adapter folder.

    Raises:
        AdapterError: if it is no folder here, holds no adapter, or a broken one.
        RunError: for a run that is not finished.
        EvaluationError: for broken scores.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise AdapterError(f"{path} is no folder here; give a finished run folder, or an adapter folder.")
    run, adapter = RunFolder(folder), find_adapter(folder)
    name, inspection = folder.resolve().name, inspect_adapter(adapter)
    if not run.config.is_file():
        return Content(name, adapter, inspection)
    config = run.read_config()
    records = tuple(read_scores(run.scores)) if run.scores.is_file() else ()
    accuracies = tuple(read_accuracies(run.accuracy)) if run.accuracy.is_file() else ()
    command, pictures = _command(run), find_pictures(run, name)
    return Content(name, adapter, inspection, run, config, records, accuracies, command, pictures)


def write_content(content: Content, card: str, folder: Path) -> list[str]:
    """Write all that is published into an empty folder.

    Args:
        content: what to publish.
        card: the model card.
        folder: made if it is not there.

    Returns:
        the names of the files, relative to the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / README, card)
    for name in FILES:
        if (content.adapter / name).is_file():
            shutil.copyfile(content.adapter / name, folder / name)
    write_json(folder / CONFIG, _public_config(content.adapter))
    if content.records:
        write_scores(folder / SCORES, map(_public_record, content.records))
    if content.accuracies:
        write_json(folder / ACCURACY, [_public_accuracy(record) for record in content.accuracies])
    if content.config is not None:
        values = publishable(content.config, content.name)
        write_text(folder / RUN_CONFIG, yaml.safe_dump(values, sort_keys=False))
    for name, write in content.pictures.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write(folder / name)
    return [name for name in PUBLISHED if (folder / name).is_file()]


def _public_config(adapter: Path) -> dict[str, Any]:
    """What the adapter's file says, base and data by the names that others may read."""
    described = read_adapter_config(adapter)
    for section, key in (("base", "id"), ("data", "name")):
        if isinstance((described.get(section) or {}).get(key), str):
            described[section][key] = public_name(described[section][key])
    return described


def _public_record(record: ScoreRecord) -> ScoreRecord:
    if not isinstance(record.settings.get("base"), str):
        return record
    settings = {**record.settings, "base": public_name(record.settings["base"])}
    return record.model_copy(update={"settings": settings})


def _public_accuracy(record: AccuracyRecord) -> dict[str, Any]:
    named = {"base": public_name(record.base), "data": public_name(record.data)}
    return record.model_copy(update=named).model_dump(mode="json")


def _command(run: RunFolder) -> str:
    """The line that trained the run, from what it wrote down; without the places of programs and of the home."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        words = json.loads(run.environment.read_text(encoding="utf-8"))["command"]
        if "train" in words[1:2]:
            return shlex.join(["superlora-diff", *_without_home(words[1:])])
    return ""


def _without_home(words: Sequence[Any]) -> list[str]:
    return [str(word).replace(str(Path.home()), "~") for word in words]
