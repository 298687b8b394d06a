"""``eval-acc``: how many images of a test split a classifier names rightly, with and without what was trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..data.config import DataConfig
from ..data.records import ImageSet
from ..errors import ConfigError, EvaluationError
from ..models.classifier import Classifier
from ..models.images import load_for_classifier
from ..models.labelled import LabelledImages
from ..models.parts import read_json
from ..models.storage import CARD
from ..runs.folder import RunFolder, library_versions
from ..runs.source import Source, base_digest, open_classifier
from .accuracy_records import AccuracyRecord, ClassAccuracy, read_accuracies, write_accuracies
from .intervals import wilson

BASE = "base"


@dataclass(frozen=True)
class AccuracyRequest:
    """What ``eval-acc`` was asked, beyond what the run says."""

    data: str | None = None
    """Data set whose test split is classified; the run's own by default."""
    only: Literal[None, "base", "adapter"] = None
    """Score the base alone, or what was trained alone; None scores both."""
    again: bool = False
    """Score also what is scored already."""
    base: str | None = None
    """Another base than the adapter names."""
    device: torch.device | str = "cpu"


@dataclass(frozen=True)
class _Model:
    """One network to score: its numbers, its weights' digest, and the context in which the classifier is it."""

    name: str
    parameters: int
    head_parameters: int
    weights: str
    applied: Callable[[], AbstractContextManager]


def evaluate_accuracy(
    path: str,
    request: AccuracyRequest,
    on_start: Callable[[str, int], None] = lambda name, count: None,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[AccuracyRecord]:
    """Score a run, an adapter or a classifier; a base is scored beside its adapter where both have the same classes.

    Args:
        path: a finished run folder, an adapter folder or its hub id, or a classifier's folder or hub id.
        request: what to do otherwise than the run says.
        on_start: called with a name and a number of images before each scoring.
        on_batch: called with the number of images of each finished batch.

    Returns:
        the records, the base's first; they are also in the file that :func:`accuracy_file` names.

    Raises:
        EvaluationError: if it is not said which data is classified, or ``only`` asks for what there is not.
        RunError, BaseModelError, DataError, ConfigError: as opening, loading and preparing would.
    """
    source = open_classifier(path, request.base)
    images = _test_images(source, request.data)
    file = accuracy_file(path)
    stored = read_accuracies(file) if file.is_file() else []
    records = []
    for model in _chosen(source, request):
        told = (model.name, model.weights, source.base.name, images.content_hash[:12])
        record = next((one for one in stored if one.measures(*told)), None)
        if record is None or request.again:
            on_start(model.name, len(images))
            with model.applied():
                record = _score(source, model, images, request.device, on_batch)
            write_accuracies(file, [record])  # after each, so that an interruption loses one at most
        records.append(record)
    return records


def accuracy_file(path: str) -> Path:
    """Where records go: into a run's folder, for all else into ``scores-NAME`` here."""
    folder = Path(path).expanduser()
    if (folder / "config.yaml").is_file():
        return RunFolder(folder).accuracy
    return Path(f"scores-{folder.resolve().name}") / "accuracy.json"


def _chosen(source: Source, request: AccuracyRequest) -> list[_Model]:
    models = list(_models(source, request))
    alone = {None: models, "base": models[:-1], "adapter": models[-1:]}[request.only]
    if not alone:
        why = "it is one" if source.adapter is None else "its own head tells other classes apart"
        raise EvaluationError(f"{source.name} has no base beside it to score ({why}); leave out only=base.")
    return alone


def _models(source: Source, request: AccuracyRequest) -> Iterator[_Model]:
    classifier, adapter = source.base, source.adapter
    if adapter is None:
        # A network trained from nothing is a base; one that was fine-tuned whole cost all of its weights.
        tuned = source.config is not None and source.config.base.build is None
        count = sum(parameter.numel() for parameter in classifier.network.parameters()) if tuned else 0
        yield _Model(source.name, count, 0, base_digest(classifier), nullcontext)
        return
    head = sum(parameter.numel() for parameter in classifier.head_parameters().values())
    if not head:  # with a new head it would be another network than what was trained on
        yield _Model(BASE, 0, 0, source.base_digest or base_digest(classifier), adapter.disabled)
    yield _Model(source.name, adapter.num_parameters, head, source.weights, adapter.cached)


def _test_images(source: Source, asked: str | None) -> ImageSet:
    """The test split, as the classifier takes it.

    Raises:
        EvaluationError: if nobody says which data.
    """
    data = _data_of(source, asked)
    try:
        return load_for_classifier(source.base, data, "test")
    except ConfigError as error:
        raise EvaluationError(f"{source.name} cannot be scored on {data.name}: {error}") from error


def _data_of(source: Source, asked: str | None) -> DataConfig:
    own = source.config.data if source.config is not None else None
    if asked is not None:
        # What the run says of reading (root, download, class map) is of its own data, except for the place of files.
        kept = {} if own is None else {"root": own.root, "download": own.download}
        return own if own is not None and own.name == asked else DataConfig(name=asked, **kept)
    if own is not None:
        return own
    name = _trained_on(source)
    if name is None:
        raise EvaluationError(f"{source.name} does not say which data it was trained on; give it by --data.")
    return DataConfig(name=name)


def _trained_on(source: Source) -> str | None:
    """The data that an adapter's file, or the card beside a classifier that was trained here, names."""
    if source.folder is not None:
        from ..adapters.reading import read_adapter_config

        return (read_adapter_config(source.folder).get("data") or {}).get("name")
    card = Path(source.base.name).expanduser() / CARD
    return (read_json(card).get("data") or {}).get("name") if card.is_file() else None


def _score(
    source: Source,
    model: _Model,
    images: ImageSet,
    device: torch.device | str,
    on_batch: Callable[[int], None],
) -> AccuracyRecord:
    classifier: Classifier = source.base
    network, losses, right = classifier.network.to(device).eval(), [], []
    for loss, found in LabelledImages(classifier, images).judge(network, device):
        losses.append(loss)
        right.append(found)
        on_batch(len(found))
    hits = torch.cat(right)
    share = hits.double().mean().item()
    return AccuracyRecord(
        name=model.name,
        parameters=model.parameters,
        head_parameters=model.head_parameters,
        accuracy=share,
        accuracy_interval=wilson(share, len(hits)),
        loss=torch.cat(losses).mean().item(),
        n=len(hits),
        classes=_per_class(hits, torch.from_numpy(images.labels), classifier.class_names),
        data=images.name,
        data_hash=images.content_hash[:12],
        base=classifier.name,
        weights=model.weights,
        libraries=library_versions(),
    )


def _per_class(hits: Tensor, labels: Tensor, names: tuple[str, ...]) -> tuple[ClassAccuracy, ...]:
    """Of each class that has images."""
    found = [(name, hits[labels == index]) for index, name in enumerate(names)]
    return tuple(
        ClassAccuracy(name=name, accuracy=own.double().mean().item(), n=len(own))
        for name, own in found
        if len(own)
    )
