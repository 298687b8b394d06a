"""The model card: metadata that the hub reads, and a page for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import HubError
from ..evaluation.accuracy_records import AccuracyRecord
from ..evaluation.accuracy_table import NAMES, NUMBERS, numbers_of
from ..evaluation.records import ScoreRecord
from ..evaluation.table import MEASURED
from ..hub.download import is_hub_id
from ..models.config import EMBEDDED_BASE
from ..report.describe import changed_values
from ..runs.published import public_name
from .content import Content

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

LIBRARY = "superlora-diffusion"
_TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"
# The official data sets as the hub calls them.
_ON_THE_HUB = {
    "mnist": "ylecun/mnist",
    "fashionmnist": "zalando-datasets/fashion_mnist",
    "usps": "flwrlabs/usps",
    "svhn": "ufldl-stanford/svhn",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
}
# Field of a record, the metric's identifier, its name for people.
_METRICS = (
    ("is_mean", "inception_score", "Inception Score"),
    ("is_distance", "is_distance", "IS distance |IS - IS of real images|"),
    ("fid", "fid", "FID"),
    ("kid", "kid", "KID"),
    ("precision", "precision", "Precision"),
    ("recall", "recall", "Recall"),
    ("accuracy", "accuracy", "Accuracy of the asked-for class"),
)


@dataclass(frozen=True)
class BaseOf:
    """The base an adapter was trained on, and where others find it."""

    name: str | None
    revision: str | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether it comes with the library."""
        return self.name == EMBEDDED_BASE

    @property
    def hub_id(self) -> str | None:
        """Its id, where it is on the hub. A folder of that name here is a folder."""
        here = self.name is None or Path(self.name).expanduser().exists()
        return None if here or not is_hub_id(self.name) else self.name

    @property
    def is_public(self) -> bool:
        """Whether others find it by its name."""
        return self.is_embedded or self.hub_id is not None


def make_card(content: Content, repo_id: str, license: str | None = None) -> str:
    """The text of README.md.

    Args:
        content: what is published.
        repo_id: where, "user/name".
        license: an identifier that the hub knows, such as apache-2.0.

    Raises:
        HubError: if the metadata would not be valid.
    """
    from huggingface_hub import ModelCard

    base = _base_of(content)
    data = _metadata(content, repo_id, base, license)
    try:
        card = ModelCard.from_template(data, template_path=str(_TEMPLATE), **_page(content, repo_id, base))
    except ValueError as error:
        raise HubError(f"the model card of {repo_id} would not be valid: {error}", "invalid") from error
    return re.sub(r"\n{3,}", "\n\n", str(card)).rstrip() + "\n"


def _base_of(content: Content) -> BaseOf:
    config = content.config
    return BaseOf(content.inspection.base, config.base.revision if config else None)


def _metadata(content: Content, repo_id: str, base: BaseOf, license: str | None) -> ModelCardData:
    from huggingface_hub import ModelCardData

    data_id = _ON_THE_HUB.get(_data_name(content))
    results = [result for record in _own(content) for result in _results(record, content)]
    results += [_accuracy_result(record) for record in content.accuracies if record.parameters > 0]
    task = "image-classification" if _classifies(content) else "diffusion"
    return ModelCardData(
        library_name=LIBRARY,
        tags=["superlora", task, "parameter-efficient", content.inspection.name],
        base_model=base.hub_id,
        base_model_relation="adapter" if base.hub_id else None,
        license=license,
        datasets=[data_id] if data_id else None,
        model_name=repo_id.split("/")[-1] if results else None,
        eval_results=results or None,
    )


def _own(content: Content) -> list[ScoreRecord]:
    return [record for record in content.records if record.parameters > 0]


def _classifies(content: Content) -> bool:
    return content.inspection.head is not None


def _data_name(content: Content) -> str:
    return str(content.inspection.data.get("name") or "unknown")


def _results(record: ScoreRecord, content: Content) -> Iterator[EvalResult]:
    """The record's scores, each with all that it depends on."""
    protocol = {
        "images": record.n,
        "splits": record.splits,
        "seed": record.seed,
        "extractor": record.extractor,
    }
    for key, kind, label in _METRICS:
        if getattr(record, key) is not None:
            metric = (kind, label, getattr(record, key))
            args = {**protocol, "extractor_hash": record.extractor_hash}
            yield _result("Image generation", _data_name(content), metric, args)


def _accuracy_result(record: AccuracyRecord) -> EvalResult:
    metric = ("accuracy", "Accuracy", record.accuracy)
    return _result("Image classification", record.data, metric, {"images": record.n})


def _result(task: str, data: str, metric: tuple[str, str, float], args: dict[str, Any]) -> EvalResult:
    """One score as the hub reads it: the task and the data by their names, (identifier, name, value), the protocol."""
    from huggingface_hub import EvalResult

    name = public_name(data)
    kind, label, value = metric
    return EvalResult(
        task_type=task.lower().replace(" ", "-"),
        task_name=task,
        dataset_type=_ON_THE_HUB.get(name, name),
        dataset_name=name,
        dataset_split="test",
        metric_type=kind,
        metric_name=label,
        metric_value=value,
        metric_args=args,
    )


def _page(content: Content, repo_id: str, base: BaseOf) -> dict[str, Any]:
    """What the template is filled with."""
    found, protocols = content.inspection, list(dict.fromkeys(r.protocol for r in content.records))
    return {
        "repo_id": repo_id,
        "title": repo_id.split("/")[-1],
        "found": found,
        "kind": f"{'SuperLoRA' if found.method == 'superlora' else found.method} adapter ({found.name})",
        "base": base,
        "base_name": public_name(found.base or "a base that its file does not name"),
        "data_name": public_name(_data_name(content)),
        "pictures": sorted(content.pictures),
        "facts": [(name, _cell(text)) for name, text in _facts(content)],
        "score_table": list(_score_table(content.records, protocols)),
        "protocols": protocols,
        "classifies": _classifies(content),
        "accuracy_table": list(_accuracy_table(content.accuracies)),
        "notes": list(dict.fromkeys(note for record in content.records for note in record.notes)),
        "settings": [(name, _cell(value)) for name, value in _settings(content).items()],
        "command": content.command,
        "version": __version__,
    }


def _facts(content: Content) -> Iterator[tuple[str, str]]:
    found = content.inspection
    share = (
        f" ({100 * found.parameters / found.targets.weights:.3g} % of the weights they adapt)"
        if found.targets
        else ""
    )
    yield "Trained numbers", f"{found.parameters:,}{share}"
    yield "Size on disk", ", ".join(f"{name}: {size:,} bytes" for name, size in found.files.items())
    if found.targets is not None:
        targets = found.targets
        patterns = ", ".join(f"`{pattern}`" for pattern in targets.patterns)
        yield "Targets", f"{patterns}: {targets.count:,} layers, {targets.weights:,} weights"
    if found.head is not None:
        own = f"{found.head.parameters:,} numbers of its own, trained beside the adapter"
        yield (
            "Head",
            f"{found.head.classes} classes, {own if found.head.parameters else 'the one of the base'}",
        )
    if found.scale is not None:
        yield "Scale", f"{found.scale:g}"
    yield (
        "Method",
        f"{found.name}: " + (", ".join(f"{k} {_plain(v)}" for k, v in found.settings.items()) or "defaults"),
    )


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _score_table(records: Sequence[ScoreRecord], protocols: Sequence[str]) -> Iterator[list[str]]:
    """Heading and rows; a score that no record has gets no column, a column numbers the protocols if they differ."""
    if not records:
        return
    columns = [(heading, cell) for heading, cell in MEASURED if any(map(cell, records))]
    mixed = len(protocols) > 1
    yield ["model", "parameters", *(heading for heading, _ in columns), *(["measured"] if mixed else [])]
    for record in records:
        number = [f"({protocols.index(record.protocol) + 1})"] if mixed else []
        values = [cell(record) or "-" for _, cell in columns]
        yield [_cell(record.name), f"{record.parameters:,}", *map(_cell, values), *number]


def _accuracy_table(records: Sequence[AccuracyRecord]) -> Iterator[list[str]]:
    """Heading and rows; nothing where nothing was scored."""
    if records:
        yield [*NAMES, *NUMBERS]
    for record in records:
        yield [_cell(record.name), _cell(public_name(record.data)), *numbers_of(record)]


def _settings(content: Content) -> dict[str, str]:
    """What differs from the defaults, without places on this machine."""
    if content.config is None:
        return {name: _plain(value) for name, value in content.inspection.training.items()}
    values = changed_values(content.config)
    values.setdefault("train.steps", str(content.config.train.steps))
    values["train.learning_rate"] = f"{content.config.learning_rate:g}"
    values["seed"] = str(content.config.seed)
    for name in ("base.path", "data.name", "evaluation.extractor", "evaluation.extractor_path"):
        if name in values:
            values[name] = public_name(values[name])
    return {name: value for name, value in values.items() if name not in ("data.root", "data.download")}


def _cell(text: str) -> str:
    """Text inside a table of Markdown."""
    return " ".join(str(text).replace("|", r"\|").split())
