"""``eval-is``: a run's base and its adapter, scored alike against the real test images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import EvaluationError
from ..hub.download import is_hub_id
from ..models.base import Base
from ..peers import Peer
from ..runs.config import METRICS, EvaluationSettings, Metric, RunConfig
from ..runs.folder import RunFolder, library_versions
from ..runs.published import config_from_adapter
from ..runs.source import Source, base_digest, open_source
from .processes import is_main, rank_and_count
from .protocol import Protocol, make_protocol, score_model
from .records import ScoreRecord, read_scores, write_scores

BASE = "base"


@dataclass
class Request:
    """What ``eval-is`` was asked, beyond what the runs' configs say (None: as the run says)."""

    images: int | None = None
    splits: int | None = None
    seed: int | None = None
    extractor: str | None = None
    extractor_path: str | None = None
    real: str | None = None
    """Data set whose test split is the real images; the run's own by default."""
    sampling: dict = field(default_factory=dict)
    """Values that win over the run's sampling settings."""
    device: object = "cpu"
    again: bool = False
    """Score also what is scored already."""
    metrics: Sequence[Metric] | str | None = None
    """Which scores, as a list or with commas between."""
    save_images: bool = False
    """Keep the images that are scored, as `samples/scored-*.npz` in the run folder."""
    only: Literal[None, "base", "adapter"] = None
    """Score the base alone, or the adapter (or fully trained network) alone; None scores both."""


def evaluate_run(
    path: str,
    request: Request,
    known: list[ScoreRecord],
    on_start: Callable[[str, int], None] = lambda name, count: None,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[ScoreRecord]:
    """Score the base and the adapter of one run; a run of method full is its base alone.

    Args:
        path: a finished run folder, or a published adapter (a hub id).
        request: what to do otherwise than the run's config says.
        known: records of other runs, scored by the same call; a base among them is not drawn again.
        on_start: called with a name and a number of images before each drawing.
        on_batch: called with the number of images of each finished batch.

    Returns:
        the records, the base's first; they are also in ``scores.json`` of :func:`scores_folder`.

    Raises:
        EvaluationError: if the path is no run folder, or what was asked cannot be scored.
    """
    folder = RunFolder(scores_folder(path))
    if request.save_images and rank_and_count()[1] > 1:
        raise EvaluationError(
            "images are saved by one process alone; leave out save-images, or the launcher."
        )
    source = open_source(path)
    if source.config is None:
        if source.adapter is None:
            raise EvaluationError(
                f"{path} is a base; eval-is needs an adapter, for the data to compare with."
            )
        source.config = config_from_adapter(source.folder, source.name)
    protocol = _protocol(source, request)
    stored = read_scores(folder.scores) if folder.scores.is_file() else []
    records = []
    for name, parameters, weights, context in _chosen(source, request):
        wanted = _settings(protocol, weights, source.base)
        record = _find(known, name, wanted, protocol)
        earlier = record or _find(stored, name, wanted, protocol)
        if record is None and not request.again:
            record = earlier
        # What an earlier record says besides is measured with it, so that nothing is lost when it is replaced.
        metrics = _united(protocol.settings.metrics, earlier)
        saved = images_file(folder, name, wanted, protocol) if request.save_images else None
        drawn = saved is None or saved.is_file()
        if record is None or set(metrics) != set(record.metrics) or not drawn:
            on_start(name, protocol.share)
            with context():
                scores = score_model(source.base, protocol, metrics, on_batch, saved)
            record = ScoreRecord.from_scores(name, parameters, scores, wanted, library_versions())
        records.append(record)
        if is_main():
            write_scores(folder.scores, [record])  # after each, so that an interruption loses one at most
    return records


def scores_folder(path: str) -> Path:
    """Where scores of a run go: into its folder, or for a published adapter into ``scores-NAME`` here.

    Raises:
        EvaluationError: if the path is neither a run folder nor a hub id.
    """
    folder = Path(path).expanduser()
    if (folder / "config.yaml").is_file():
        return folder
    if not folder.exists() and is_hub_id(path):
        return Path(f"scores-{folder.name}")
    raise EvaluationError(
        f"{path} is no run folder; eval-is needs one (or a published adapter's hub id), for the data to compare with."
    )


def images_file(folder: RunFolder, name: str, settings: dict, protocol: Protocol) -> Path:
    """Where the scored images of a model are kept; another drawing has another name."""
    told = json.dumps([settings, protocol.settings.images, protocol.settings.seed], sort_keys=True)
    return folder.samples / f"scored-{name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.npz"


def _united(asked: tuple[Metric, ...], earlier: ScoreRecord | None) -> tuple[Metric, ...]:
    """The metrics of both, in the usual order."""
    both = {*asked, *(earlier.metrics if earlier else ())}
    return tuple(metric for metric in METRICS if metric in both)


def _chosen(source: Source, request: Request) -> list[tuple[str, int, str, Callable]]:
    """The models of a run that were asked for: the base comes first, what was trained last."""
    models = list(_models(source))
    if request.only == "base" and len(models) == 1:
        raise EvaluationError(
            f"{source.name} trained every weight of its network (method full), so there is no base beside it to "
            "score; leave out only=base, or score a run with an adapter."
        )
    return {None: models, "base": models[:-1], "adapter": models[-1:]}[request.only]


def _models(source: Source) -> Iterator[tuple[str, int, str, Callable]]:
    """(name, parameters, weights, context in which the network is that model)."""
    base = source.base_digest or base_digest(source.base)
    if source.adapter is None:
        # A network trained from nothing is a base; one that was fine-tuned whole cost all of its weights.
        fresh = source.config.base.build is not None
        count = 0 if fresh else sum(parameter.numel() for parameter in source.base.network.parameters())
        yield source.name, count, base, nullcontext
        return
    yield BASE, 0, base, source.adapter.disabled
    yield source.name, source.adapter.num_parameters, source.weights, lambda: _applied(source)


@contextmanager
def _applied(source: Source) -> Iterator[None]:
    if isinstance(source.adapter, Peer):  # scored in place: not every library can merge
        with source.adapter.cached():
            yield
        return
    source.adapter.merge()
    try:
        yield
    finally:
        source.adapter.unmerge()


def _protocol(source: Source, request: Request) -> Protocol:
    config: RunConfig = source.config
    names = ("images", "splits", "seed", "extractor", "extractor_path", "metrics")
    asked = {key: getattr(request, key) for key in names}
    given = {key: value for key, value in asked.items() if value is not None}
    settings = EvaluationSettings(**{**config.evaluation.model_dump(), **given})
    source.base.network.to(request.device)
    return make_protocol(source.base, config, settings, request.sampling, request.real, request.device)


def _settings(protocol: Protocol, weights: str, base: Base) -> dict:
    """How the images are drawn and compared: what makes two records the same measurement."""
    sampling = protocol.sampling.as_measured()
    return {**sampling, "base": base.name, "weights": weights, "real": protocol.real.content_hash[:12]}


def _find(known: list[ScoreRecord], name: str, wanted: dict, protocol: Protocol) -> ScoreRecord | None:
    same = (record for record in known if record.name == name and record.settings == wanted)
    asked = protocol.settings
    n = min(asked.images, len(protocol.real))
    key = (n, asked.splits, asked.seed, protocol.extractor.hash)
    return next((r for r in same if (r.n, r.splits, r.seed, r.extractor_hash) == key), None)
