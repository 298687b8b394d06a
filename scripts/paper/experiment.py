"""What the paper's experiment is made of: which base moves to which data, by which settings, as one sweep.

At scale ``gpu`` all is the paper's: its U-Net at 32 px and its settings, so that the counts are the published ones. At
scale ``cpu`` the settings keep their structure on the embedded base's U-Net (16 px), with the rank at which they train
nearest to the published share of the weights (``superlora_diffusion.adapters.rescaling``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from superlora_diffusion.adapters.config import SuperLoRAConfig
from superlora_diffusion.adapters.rescaling import rescale, trained_share
from superlora_diffusion.errors import ConfigError, nearest
from superlora_diffusion.models.config import EMBEDDED_BASE, BaseSettings
from superlora_diffusion.report.published import PUBLISHED, PublishedPoint
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.runs.counting import TargetList, targets_on
from superlora_diffusion.runs.folder import RunFolder
from superlora_diffusion.runs.loading import load_config
from superlora_diffusion.sweeps.cells import list_cells
from superlora_diffusion.sweeps.config import SweepConfig, flatten, load_sweep

PAPER_BASE, PAPER_SWEEP = "paper/base-svhn", "paper/sweeps/to-handwriting"
TEMPLATES = {"gpu": PAPER_SWEEP, "cpu": "sweeps/paper-small"}
"""The sweep that says how runs are trained, sampled and scored; its settings are the paper's in both."""


@dataclass(frozen=True)
class Wish:
    """What was asked for. None takes what the packaged configs say."""

    scale: str
    directions: tuple[str, ...]
    """Of to-handwriting and to-street."""
    out: Path
    handwriting: dict[str, str]
    """Sets of handwriting that are moved to: what they are called -> data.name. The first is also moved from."""
    street: str
    """The set of street numbers: svhn or synthdigits."""
    pretrain_steps: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    images: int | None = None
    seeds: tuple[int, ...] | None = None
    race_steps: int | None = None
    """0 takes each setting's default rate."""
    settings: tuple[str, ...] = ()
    """Names of the paper's sweep; none is all."""
    data: tuple[str, ...] = ()
    """``data.key=value`` texts for the bases' runs, such as data.download=true."""


@dataclass(frozen=True)
class Move:
    """One base and the data it is moved to."""

    source: str
    target: str
    base: BaseSettings
    """Whose shapes are counted; a fresh network where it is pretrained first."""
    path: str
    """What ``base.path`` of the adapters' runs is."""
    data: str
    """``data.name``"""
    pretraining: RunConfig | None = None

    @property
    def name(self) -> str:
        return f"{self.source}-to-{self.target}"

    @property
    def to_pretrain(self) -> bool:
        """Whether the base is still to be made."""
        if self.pretraining is None:
            return False
        return not RunFolder(self.pretraining.output).is_finished(self.pretraining)


@dataclass(frozen=True)
class PaperPoint:
    """One setting of the paper's sweep."""

    name: str
    values: dict[str, Any]
    """What it sets, by dotted key."""
    adapter: SuperLoRAConfig
    count: int
    share: Fraction
    """Count / N of its targets on the paper's U-Net."""
    published: PublishedPoint | None
    """None for dense."""


@dataclass(frozen=True)
class Line:
    """One setting on one base: a line of the comparison."""

    move: Move
    point: PaperPoint
    setting: str
    """What the sweep calls it."""
    rank: int | None
    """None for dense."""
    count: int
    share: Fraction


def list_points(names: Iterable[str] = ()) -> list[PaperPoint]:
    """The paper's settings on its own U-Net, in the order of its sweep.

    Args:
        names: which of them; none is all.

    Raises:
        ConfigError: for a name that is none of them.
    """
    sweep, base = load_sweep(PAPER_SWEEP, seeds=[0]), load_config(PAPER_BASE).base
    known = [setting.name for setting in sweep.settings]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--settings: got {name!r}.{nearest(name, known)} Accepted: {', '.join(known)}."
            )
    cells = zip(sweep.settings, list_cells(sweep), strict=True)
    wanted = set(names) or set(known)
    return [
        _point(setting.name, flatten(setting.set), cell.config.adapter, base)
        for setting, cell in cells
        if setting.name in wanted
    ]


def _point(name: str, values: dict[str, Any], adapter: SuperLoRAConfig, base: BaseSettings) -> PaperPoint:
    found = _targets_on(base.model_dump_json(), adapter.targets, adapter.exclude)
    share = trained_share(adapter, found.targets)
    count = int(share * found.weights)
    published = {point.parameters: point for point in PUBLISHED}
    return PaperPoint(name, values, adapter, count, share, published.get(count))


@lru_cache(maxsize=32)  # fourteen settings ask for the same few of the same base
def _targets_on(base: str, targets: tuple[str, ...], exclude: tuple[str, ...]) -> TargetList:
    adapter = SuperLoRAConfig(targets=targets, exclude=exclude)
    return targets_on(BaseSettings.model_validate_json(base), adapter)


def list_moves(wish: Wish) -> list[Move]:
    """The moves that were asked for, in the order of the directions."""
    moves = []
    for direction in wish.directions:
        if direction == "to-handwriting":
            moves += [_to_handwriting(wish, *item) for item in wish.handwriting.items()]
        else:
            moves.append(_to_street(wish))
    return moves


def _to_handwriting(wish: Wish, target: str, data: str) -> Move:
    if wish.scale == "cpu":
        return Move(wish.street, target, BaseSettings(path=EMBEDDED_BASE), EMBEDDED_BASE, data)
    pretraining = _pretraining(wish, "paper/base-svhn", f"base-{wish.street}", wish.street)
    return _after(pretraining, wish.street, target, data)


def _to_street(wish: Wish) -> Move:
    source, data = next(iter(wish.handwriting.items()))
    config, name = ("paper/base-mnist", "base") if wish.scale == "gpu" else ("base-synthdigits-16", "base-16")
    return _after(_pretraining(wish, config, f"{name}-{source}", data), source, wish.street, wish.street)


def _after(pretraining: RunConfig, source: str, target: str, data: str) -> Move:
    path = str(RunFolder(pretraining.output).result(pretraining))
    return Move(source, target, pretraining.base, path, data, pretraining)


def _pretraining(wish: Wish, config: str, folder: str, data: str) -> RunConfig:
    overrides = [f"data.name={json.dumps(data)}", *wish.data]
    if wish.pretrain_steps is not None:
        overrides.append(f"train.steps={wish.pretrain_steps}")
    return load_config(config, overrides, output=str(wish.out / folder))


def list_lines(wish: Wish, moves: Sequence[Move]) -> list[Line]:
    """Every setting on every base, its rank fitted to the base at scale ``cpu``.

    Raises:
        ConfigError: for unknown settings.
    """
    points = list_points(wish.settings)
    return [_line(move, point, wish.scale == "cpu") for move in moves for point in points]


def _line(move: Move, point: PaperPoint, fit: bool) -> Line:
    found = _targets_on(move.base.model_dump_json(), point.adapter.targets, point.adapter.exclude)
    adapter = rescale(point.adapter, point.share, found.targets) if fit else point.adapter
    share = trained_share(adapter, found.targets)
    rank = None if adapter.order == 1 else adapter.rank
    name = _renamed(point.name, point.adapter.rank, rank)
    return Line(move, point, f"{move.name}-{name}", rank, int(share * found.weights), share)


def _renamed(name: str, old: Any, new: Any) -> str:
    """A setting's name with its rank as it is now: lora-r8 becomes lora-r4."""
    return "-".join(f"r{new}" if word == f"r{old}" else word for word in name.split("-"))


def make_sweep(wish: Wish, lines: Sequence[Line]) -> SweepConfig:
    """All lines as one sweep.

    Raises:
        ConfigError: for values that no run can have.
    """
    template = load_sweep(TEMPLATES[wish.scale])
    values = template.model_dump()
    values |= {"output": str(wish.out / wish.scale), "settings": [_setting(line) for line in lines]}
    values["set"] = {**flatten(template.set), **_told(wish)}
    if wish.seeds is not None:
        values["seeds"] = wish.seeds
    if wish.race_steps is not None:
        values["learning_rate"] = {**values["learning_rate"], "steps": wish.race_steps}
    if wish.race_steps == 0:
        values["learning_rate"] = None
    return SweepConfig(**values)


def _setting(line: Line) -> dict[str, Any]:
    values = {**line.point.values, "base.path": line.move.path, "data.name": line.move.data}
    if line.rank is not None:
        values["adapter.rank"] = line.rank
    return {"name": line.setting, "set": values}


def _told(wish: Wish) -> dict[str, Any]:
    """Values of every adapter's run. Digits are read by the digits extractor, whatever their file is called."""
    told = {"train.steps": wish.steps, "train.batch_size": wish.batch_size, "evaluation.images": wish.images}
    given = {key: value for key, value in told.items() if value is not None}
    return {"evaluation.extractor": "digits", **given}
