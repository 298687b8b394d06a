"""From finished sweeps to runs that may be compared, target by target: read, filtered, checked. Imports no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from superlora_diffusion.errors import RunError
from superlora_diffusion.evaluation.records import ScoreRecord, read_scores
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.runs.family import family_of
from superlora_diffusion.sweeps.cells import list_cells
from superlora_diffusion.sweeps.config import SweepConfig, read_sweep
from superlora_diffusion.sweeps.folder import SweepFolder
from superlora_diffusion.sweeps.results import COLUMNS

NEEDED = ("val_loss", "is_distance", "fid")
"""Scores without which a run is left out; kid and accuracy may be missing."""
_WHOLE = ("parameters", "seed", "steps")
_REAL = ("lr", *NEEDED, "kid", "accuracy")


@dataclass(frozen=True)
class Run:
    """One finished run: its line of front.csv and where it came from."""

    values: Mapping[str, Any]
    """By the names in COLUMNS; a score that was not measured is None."""
    config: RunConfig
    sweep: Path

    @property
    def key(self) -> tuple[str, int, str]:
        return self.values["setting"], self.values["seed"], self.values["target"]

    @property
    def told(self) -> str:
        """What messages call it."""
        return f"{self.sweep.name}: {self.values['setting']} seed {self.values['seed']}"

    @property
    def folder(self) -> Path:
        return SweepFolder(self.sweep).cell(f"{self.values['setting']}-seed{self.values['seed']}")


@dataclass(frozen=True)
class Gathered:
    """What the front is made of."""

    runs: tuple[Run, ...]
    left_out: tuple[str, ...]
    """Each run without scores, and what it lacks."""
    target: str


def gather(
    folders: Sequence[Path], target: str | None = None, families: Mapping[str, str] | None = None
) -> list[Gathered]:
    """Read sweeps and keep the runs that have scores: for each target those that may stand in one table.

    Args:
        folders: of sweeps, each with results.csv and sweep.yaml.
        target: the only data set to keep; None keeps all, in the order in which the sweeps name them.
        families: family by setting, over what its method says.

    Raises:
        RunError: for what is missing, contradicts itself or, of one target, was measured in different ways.
    """
    runs = [run for folder in dict.fromkeys(map(Path.resolve, folders)) for run in read_runs(folder)]
    return [_of_one_target(group) for group in _by_target(_with_families(runs, families or {}), target)]


def _of_one_target(runs: Sequence[Run]) -> Gathered:
    lacking = {id(run): missing_scores(run) for run in runs}
    left_out = tuple(f"{run.told} ({', '.join(lacking[id(run)])})" for run in runs if lacking[id(run)])
    kept = merge_twins([run for run in runs if not lacking[id(run)]])
    if not kept:
        name = runs[0].values["target"]
        raise RunError(
            f"no run on {name} has scores: {'; '.join(left_out)}. Let a sweep finish with score: true."
        )
    check_settings(kept)
    check_protocols(kept)
    order = sorted(kept, key=lambda run: tuple(run.values[name] for name in _ORDER))
    return Gathered(tuple(order), left_out, order[0].values["target"])


_ORDER = ("family", "parameters", "seed", "setting")


def read_runs(folder: Path) -> list[Run]:
    """The runs in a sweep's results.csv with their configs by its sweep.yaml.

    Raises:
        RunError: if a file is missing or broken, or a row is of no cell of the sweep.
    """
    table, described = folder / "results.csv", SweepFolder(folder).config
    for file in (table, described):
        if not file.is_file():
            raise RunError(f"{folder} has no {file.name}; give folders that `superlora-diff sweep` filled.")
    sweep = SweepConfig(**read_sweep(str(described)))
    configs = {(cell.setting, cell.seed): cell.config for cell in list_cells(sweep)}
    with table.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if absent:
            raise RunError(
                f"{table} lacks the columns {', '.join(absent)}; run its sweep again to rewrite it."
            )
        return [_read_run(row, configs, table) for row in reader]


def _read_run(row: Mapping[str, str], configs: Mapping[tuple[str, int], RunConfig], table: Path) -> Run:
    values: dict[str, Any] = {name: row[name] for name in COLUMNS}
    try:
        values |= {name: int(row[name]) for name in _WHOLE}
        values |= {name: float(row[name]) if row[name] else None for name in _REAL}
    except (TypeError, ValueError) as error:
        raise RunError(f"{table}: row {row['setting']} {row['seed']} holds no number ({error}).") from None
    config = configs.get((values["setting"], values["seed"]))
    if config is None:
        raise RunError(
            f"{table}: {values['setting']} seed {values['seed']} is no cell of the sweep.yaml beside it. "
            "Run the sweep again to write both anew."
        )
    return Run({**values, "family": front_family(config)}, config, table.parent)


def front_family(config: RunConfig) -> str:
    """``lora`` by structure, ``baseline`` (dense, full and the parts of a network), ``peer`` by a library, or ours."""
    if config.method in ("peft", "lycoris"):
        return "peer"
    if config.method != "superlora":
        return "baseline"
    return {"lora": "lora", "dense": "baseline"}.get(family_of(config), "superlora")


def missing_scores(run: Run) -> list[str]:
    """Which of the needed scores a run lacks; one that is not finite counts as lacking."""
    values = {name: run.values[name] for name in NEEDED}
    return [
        f"no {name}" if value is None else f"{name} {value}"
        for name, value in values.items()
        if value is None or not math.isfinite(value)
    ]


def merge_twins(runs: Iterable[Run]) -> list[Run]:
    """Each run once, though several sweeps hold it.

    Raises:
        RunError: if two say different numbers.
    """
    found: dict[tuple, Run] = {}
    for run in runs:
        first = found.setdefault(run.key, run)
        other = [name for name in COLUMNS if first.values[name] != run.values[name]]
        if other:
            numbers = ", ".join(f"{name} {first.values[name]} and {run.values[name]}" for name in other)
            raise RunError(
                f"{run.values['setting']} seed {run.values['seed']} stands in {first.sweep.name} and {run.sweep.name} "
                f"with other numbers: {numbers}. Rename one setting, or leave one sweep out."
            )
    return list(found.values())


def check_settings(runs: Sequence[Run]) -> None:
    """Raise RunError where one name is given to two settings: seeds of both would be averaged."""
    first: dict[str, Run] = {}
    for run in runs:
        name = run.values["setting"]
        other = first.setdefault(name, run)
        here, there = _method(run), _method(other)
        unlike = sorted(key for key in here if here[key] != there[key])
        if unlike:
            raise RunError(
                f"the setting {name} is not the same in {other.told} and {run.told}: {', '.join(unlike)} differ. "
                "Give one another name, or leave its sweep out."
            )


def _method(run: Run) -> dict[str, Any]:
    """All that makes a setting, but not its seed."""
    values = run.config.model_dump(mode="json", include={"method", "adapter", "peft", "lycoris"})
    flat = {
        f"{part}.{key}": value for part in values if part != "method" for key, value in values[part].items()
    }
    flat.pop("adapter.seed")
    return {"method": values["method"], "parameters": run.values["parameters"], **flat}


def check_protocols(runs: Sequence[Run]) -> None:
    """Raise RunError where runs were trained for other steps, on other data, or scored otherwise."""
    first: dict[str, tuple[Any, Run]] = {}
    faults: dict[str, str] = {}
    for run in runs:
        for key, value in protocol_of(run).items():
            known, other = first.setdefault(key, (value, run))
            if known != value:
                faults.setdefault(key, f"{key} is {known} in {other.told} and {value} in {run.told}")
    if faults:
        raise RunError(
            f"the runs were not made alike and cannot share a table: {'; '.join(faults.values())}. "
            "Leave a sweep out, or give its data file a name of its own."
        )


def protocol_of(run: Run) -> dict[str, Any]:
    """What runs must share to be compared; what only its stored scores tell is there where they are."""
    config = run.config
    parts = {
        "data": ("name", "limit", "resolution"),
        "train": ("batch_size",),
        "validation": ("images", "seed"),
        "evaluation": ("images", "splits", "seed", "extractor", "extractor_path"),
        "sampling": ("sampler", "steps", "guidance_scale", "negative_prompt", "height", "width", "precision"),
    }
    told = {
        f"{part}.{key}": getattr(getattr(config, part), key) for part, keys in parts.items() for key in keys
    }
    told |= {
        "base.path": config.base.path,
        "train.steps": run.values["steps"],
        "target": run.values["target"],
    }
    record = own_record(run)
    if record is not None:
        told |= {
            "real images": record.settings.get("real"),
            "extractor": record.extractor_hash,
            "N": record.n,
        }
    return told


def own_record(run: Run) -> ScoreRecord | None:
    """The stored scores that the run's row came from; None where its folder is not there."""
    file = run.folder / "scores.json"
    records = read_scores(file) if file.is_file() else []
    own = [record for record in records if record.name == run.folder.name and record.fid == run.values["fid"]]
    return own[-1] if own else None


def base_scores(runs: Sequence[Run]) -> dict[str, Any]:
    """Scores of the untrained base, measured as the runs were; empty where no sweep keeps them.

    Raises:
        RunError: if sweeps keep different ones.
    """
    found = [values for run in _one_a_sweep(runs) for values in _base_scores_of(run)]
    if any(values != found[0] for values in found):
        raise RunError(
            f"the sweeps keep different scores of the base {runs[0].config.base.path}: FID "
            f"{' and '.join(sorted({str(values['fid']) for values in found}))}. Leave one sweep out."
        )
    return found[0] if found else {}


def _one_a_sweep(runs: Sequence[Run]) -> list[Run]:
    """A run of each sweep, one with stored scores where there is one."""
    known = {run.sweep: run for run in runs}
    return list((known | {run.sweep: run for run in runs if own_record(run) is not None}).values())


def _base_scores_of(run: Run) -> list[dict[str, Any]]:
    file = SweepFolder(run.sweep).bases / "scores.json"
    records = read_scores(file) if file.is_file() else []
    fitting = [record for record in records if record.parameters == 0 and _measured_as(record, run)]
    names = ("is_distance", "fid", "kid", "accuracy")
    return [{name: getattr(record, name) for name in names} for record in fitting]


def _measured_as(record: ScoreRecord, run: Run) -> bool:
    own, config = own_record(run), run.config
    if own is not None:  # the same but for whose weights were drawn
        settings = ({**one.settings, "weights": None} for one in (record, own))
        return record.protocol == own.protocol and len({str(sorted(one.items())) for one in settings}) == 1
    told, drawn = config.evaluation, config.sampling
    given = {"sampler": drawn.sampler, "steps": drawn.steps, "guidance_scale": drawn.guidance_scale}
    return (
        (record.splits, record.seed) == (told.splits, told.seed)
        and record.n <= told.images
        and record.settings.get("base") == config.base.path
        and all(record.settings.get(name) == value for name, value in given.items() if value is not None)
    )


def _by_target(runs: Sequence[Run], target: str | None) -> list[list[Run]]:
    if not runs:
        raise RunError("the sweeps have no finished run yet.")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.values["target"], []).append(run)
    if target is not None and target not in groups:
        raise RunError(f"got --target {target}; the sweeps have {', '.join(groups)}.")
    return list(groups.values()) if target is None else [groups[target]]


def _with_families(runs: Sequence[Run], families: Mapping[str, str]) -> list[Run]:
    unknown = sorted(families.keys() - {run.values["setting"] for run in runs})
    if unknown:
        raise RunError(
            f"--family names {', '.join(unknown)}, which no sweep has. Settings are spelt as in results.csv."
        )
    return [
        replace(
            run, values={**run.values, "family": families.get(run.values["setting"], run.values["family"])}
        )
        for run in runs
    ]
