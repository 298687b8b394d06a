"""How a model is scored: against which images, drawn how, seen by which extractor; and the scoring itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.captions import captions_of
from ..data.config import DataConfig
from ..data.records import ImageSet
from ..models.base import Base
from ..models.images import load_for
from ..runs.config import EvaluationSettings, Metric, RunConfig
from ..sampling.config import SamplingSettings
from ..sampling.producer import generate_batches, run_settings_for
from .extractors import DIGIT_DATA, Extractor, load_extractor
from .features import Features, stream_features
from .processes import joined, rank_and_count, slice_of
from .reference import reference_features
from .saving import save_passing
from .scores import Scores, check_counts, score_features
from .subsample import choose_evenly, class_counts


@dataclass
class Protocol:
    """Everything two records must share to be compared."""

    real: ImageSet
    classes: np.ndarray | None
    """(images,) the classes that are asked for; None where there are none, or one alone."""
    settings: EvaluationSettings
    sampling: SamplingSettings
    extractor: Extractor
    prompts: list[str] | None = None
    """What a base that takes text is asked for, one an image."""

    @property
    def asked(self) -> list[str] | np.ndarray | None:
        """What the images are asked to be: prompts, classes or nothing."""
        return self.prompts if self.prompts is not None else self.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that are asked for; empty for none."""
        return self.real.class_names if self.classes is not None else ()

    @property
    def mine(self) -> slice:
        """The images that this process draws: all of them, unless several were launched."""
        return slice_of(self.settings.images, self.sampling.batch_size, *rank_and_count())

    @property
    def share(self) -> int:
        """How many these are."""
        return self.mine.stop - self.mine.start

    @cached_property
    def reference(self) -> Features:
        """The rows of the real images that are compared with, cut to N."""
        settings, real = self.settings, self.real
        n = check_counts(settings.images, len(real), settings.splits)
        chosen = choose_evenly(real.labels, len(real), n, settings.seed)
        return reference_features(real.images[chosen], real.labels[chosen], self.extractor)


def make_protocol(
    base: Base,
    config: RunConfig,
    settings: EvaluationSettings,
    sampling: dict[str, Any] | None = None,
    real: str | None = None,
    device: str | torch.device = "cpu",
) -> Protocol:
    """The protocol of a run.

    Args:
        config: the run's; its data and sampling hold where nothing else is said.
        sampling: values that win over the run's sampling settings.
        real: the data set whose test split is the real images; the run's own for None.
    """
    given = sampling or {}
    drawn = SamplingSettings(**{**config.sampling.model_dump(), **given})
    data = config.data
    drawn = run_settings_for(base, drawn, data.resolution, given)
    if real is not None:
        data = DataConfig(**{**data.model_dump(), "name": real, "limit": None})
    # In colour whatever the base draws, since extractors see colour.
    (held_out,) = load_for(base, data.model_copy(update={"buckets": False}), "test", 3)
    classes = prompts = None
    if base.classes is not None or base.takes_text:
        classes = interleave(class_counts(held_out.labels, settings.images))
    if base.takes_text:
        prompts = prompts_for(classes, held_out.labels, captions_of(held_out, data.caption_template))
        classes = classes if len(held_out.class_names) > 1 else None
    # A file of real digits says nothing by its name, but the run that learned digits does.
    known = data.name if data.name in DIGIT_DATA else config.data.name
    extractor = load_extractor(
        settings.extractor, settings.extractor_path, known, device, held_out.class_names
    )
    return Protocol(held_out, classes, settings, drawn, extractor, prompts)


def prompts_for(classes: np.ndarray, labels: np.ndarray, captions: Sequence[str]) -> list[str]:
    """A caption for each image that is asked for: those of the real images of its class in turn.

    Args:
        classes: (N,) the class of each image that is asked for.
        labels: (R,) of the real images.
        captions: R of them.
    """
    turns = {int(label): cycle(np.flatnonzero(labels == label)) for label in np.unique(labels)}
    return [captions[next(turns[int(label)])] for label in classes]


def interleave(counts: np.ndarray) -> np.ndarray:
    """Labels (N,) with each class so often, spread evenly, so that every batch holds all classes."""
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts if count])
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels[np.argsort(places, kind="stable")]


def score_model(
    base: Base,
    protocol: Protocol,
    metrics: tuple[Metric, ...],
    on_batch: Callable[[int], None] = lambda done: None,
    save_to: Path | None = None,
) -> Scores:
    """Draw the images of the base (with what is attached to its network) and score them.

    One batch of images is held at a time, and of the others their rows; with ``save_to`` they are written to that
    npz as they come.
    """
    reference = protocol.reference  # first: what cannot be scored is then not drawn
    settings, mine = protocol.settings, protocol.mine
    drawn = None
    if mine.stop > mine.start:
        batches = _drawn(base, protocol, mine, on_batch)
        if save_to is not None:
            batches = save_passing(save_to, batches, settings.images, protocol.classes, protocol.class_names)
        with closing(batches):  # so that a failure leaves no half-written file and the network in its mode
            drawn = stream_features(batches, None, protocol.extractor)
    features = joined(drawn, protocol.classes)
    return score_features(features, reference, protocol.extractor, settings.splits, settings.seed, metrics)


def _drawn(
    base: Base, protocol: Protocol, mine: slice, on_batch: Callable[[int], None]
) -> Iterator[np.ndarray]:
    asked = None if protocol.asked is None else protocol.asked[mine]
    count, seed = mine.stop - mine.start, protocol.settings.seed
    for batch in generate_batches(base, asked, count, protocol.sampling, seed, mine.start):
        yield batch
        on_batch(len(batch))
