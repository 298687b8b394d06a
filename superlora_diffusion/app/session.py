"""``Session``: what the page does, without a page. Opens adapters on a base that stays loaded, and draws."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..errors import ConfigError
from ..runs.draw import choose, sampling_of
from ..runs.source import Source
from ..sampling.config import SamplingSettings
from ..sampling.producer import asked_for, generate
from ..sampling.request import SampleRequest
from .choice import Choice, check_mix, look_up, told_base
from .stage import Stage, counted, stage_key

ALL = "all classes"
"""The choice of every class in turn."""


@dataclass(frozen=True)
class Opened:
    """What can be asked of what was opened."""

    name: str
    base: str
    parameters: int
    """How many numbers were trained; 0 for a base."""
    class_names: tuple[str, ...]
    takes_text: bool
    can_guide: bool
    can_scale: bool
    sampling: SamplingSettings
    """How its run samples, every value said."""
    prompts: tuple[str, ...] = ()
    """What its run previewed, for a base that takes text."""
    notes: tuple[str, ...] = ()
    """What a user should know, such as that the base is not the one it was trained on."""

    @property
    def class_choices(self) -> list[tuple[str, str]]:
        """(what is shown, what a request says) of each class, all of them first. A name with commas goes by number."""
        named = [
            (name, name if "," not in name and name.strip() == name else str(number))
            for number, name in enumerate(self.class_names)
        ]
        return [(ALL, ""), *named]

    @property
    def suggested_count(self) -> int:
        """How many pictures show enough and do not take long."""
        if self.takes_text:
            return 1
        return 2 * len(self.class_names) if 0 < len(self.class_names) <= 10 else 8


@dataclass(frozen=True)
class Drawn:
    """Pictures of one press of the button."""

    name: str
    base: np.ndarray
    """uint8 (N, H, W, C), of the base alone."""
    adapted: np.ndarray | None
    """The same noise with the adapter; None where a base was chosen."""
    labels: tuple[str, ...]
    """Class or prompt of each picture; empty for an unconditional base."""
    settings: dict[str, Any] = field(default_factory=dict)
    """All that they depend on."""


class Session:
    """One base in memory and whatever is drawn from it. Calls wait for each other: there is one network.

    Example:
        >>> session = Session(torch.device("cpu"))
        >>> session.open("runs/demo").parameters
        >>> session.draw(["runs/demo"], [1.0], SampleRequest(count=4, scale=0.5)).adapted
    """

    def __init__(self, device: torch.device, base: str | None = None) -> None:
        """Args: where to draw; a base to put adapters on instead of the one they name."""
        self.device, self.base = device, base
        self._lock = threading.Lock()
        self._stage: Stage | None = None
        self._kept: tuple[Any, np.ndarray] | None = None  # what was asked of the base last, and its pictures

    def open(self, *paths: str) -> Opened:
        """Load what the paths name, unless it is loaded.

        Args:
            paths: a run, an adapter or a base, and perhaps an adapter to mix in; empty ones count for nothing.

        Raises:
            SuperLoRAError: saying what is wrong with a path, or why two of them cannot be mixed.
        """
        with self._lock:
            choices, stage, parameters = self._open(paths)
            source = Source(choices[0].name, stage.base, None, choices[0].config)
            return Opened(
                name=" + ".join(choice.name for choice in choices),
                base=told_base(choices[0].base).rstrip("/").rpartition("/")[2],
                parameters=parameters,
                class_names=stage.base.class_names,
                takes_text=stage.base.takes_text,
                can_guide=stage.base.has_null,
                can_scale=stage.peer is None and parameters > 0,
                sampling=sampling_of(SampleRequest(), source),
                prompts=choices[0].config.preview.prompts if choices[0].config else (),
                notes=stage.notes(choices),
            )

    def _open(self, paths: Sequence[str]) -> tuple[list[Choice], Stage, int]:
        choices = [look_up(path.strip(), self.base) for path in paths if path and path.strip()]
        if not choices:
            raise ConfigError("nothing is chosen: name a run folder, an adapter folder or a base as A.")
        check_mix(choices, self.base)
        if self._stage is None or self._stage.key != stage_key(choices[0]):
            self._stage = self._kept = None  # before the next one is loaded: two large bases may not fit
            self._stage = Stage(choices[0], self.device)
        return choices, self._stage, self._stage.prepare(choices)

    def draw(
        self,
        paths: Sequence[str],
        weights: Sequence[float],
        request: SampleRequest,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Drawn:
        """Pictures of the base and, from the same noise, of the base with the adapters.

        Args:
            paths: as for :meth:`open`.
            weights: one a path; those of empty paths count for nothing.
            request: which pictures; its ``scale`` is a factor on all weights.
            on_step: called with (network calls done, network calls in all).

        Raises:
            SuperLoRAError: as :meth:`open`, and for settings that do not fit.
        """
        with self._lock:
            choices, stage, parameters = self._open(paths)
            weights = [weight for path, weight in zip(paths, weights, strict=True) if path and path.strip()]
            scale = 1.0 if request.scale is None else request.scale
            task = _Task(stage, choices[0], request, on_step)
            is_base = all(choice.adapter is None for choice in choices)
            base = self._draw_base(task, alone=is_base)
            adapted = None
            if not is_base:
                with stage.adapted(choices, weights, scale):
                    adapted = task.draw()
            told = [(one.told, weight) for one, weight in zip(choices, weights, strict=True)]
            name = " + ".join(choice.name for choice in choices)
            return Drawn(name, base, adapted, task.labels, task.describe(told, scale, parameters))

    def _draw_base(self, task: _Task, alone: bool) -> np.ndarray:
        """The base's pictures, kept from the last call where nothing of them has changed."""
        if self._kept is not None and self._kept[0] == task.key:
            task.expect(0 if alone else 1)
            return self._kept[1]
        task.expect(1 if alone else 2)
        with task.stage.bare():
            images = task.draw()
        self._kept = (task.key, images)
        return images


class _Task:
    """A request, checked against a base."""

    def __init__(
        self,
        stage: Stage,
        choice: Choice,
        request: SampleRequest,
        on_step: Callable[[int, int], None] | None,
    ) -> None:
        source = Source(choice.name, stage.base, None, choice.config)
        self.stage, self.request, self._on_step = stage, request, on_step
        settings = sampling_of(request, source)
        # Compiling takes a minute, and every other adapter would be compiled anew.
        self.settings = settings.model_copy(update={"compile": False})
        names, chosen = choose(request, source)
        self.count = request.count or max(len(chosen), 1)
        self.indices = np.resize(np.array(chosen or [0]), self.count)
        self.labels = tuple(names[index] for index in self.indices) if names else ()
        self.asked = asked_for(stage.base, names, self.indices)
        self._done = self._total = 0

    @property
    def key(self) -> tuple:
        """What the base's pictures depend on."""
        return (self.stage.key, self.labels, self.count, self.request.seed, self.settings.model_dump_json())

    def expect(self, drawings: int) -> None:
        """How often :meth:`draw` will be called."""
        batches = -(-self.count // self.settings.batch_size)
        self._total = drawings * batches * self.settings.steps

    def draw(self) -> np.ndarray:
        """uint8 (N, H, W, C), from the base with what is attached to it now."""
        base = self.stage.base
        with counted(base.network, self._count if self._on_step else None):
            return generate(base, self.asked, self.count, self.settings, self.request.seed)

    def _count(self) -> None:
        self._done += 1
        self._on_step(min(self._done, self._total), self._total)

    def describe(self, adapters: Sequence[tuple[str, float]], scale: float, parameters: int) -> dict:
        return {
            "sources": [{"path": path, "weight": weight} for path, weight in adapters],
            "base": self.stage.base.name,
            "parameters": parameters,
            "scale": scale,
            "seed": self.request.seed,
            "pictures": list(self.labels) or self.count,
            "sampling": self.settings.model_dump(mode="json", exclude={"compile", "batch_size"}),
        }
