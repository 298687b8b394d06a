"""``export`` and ``merge``: from a run or an adapter folder to the files of other tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..adapters.module import SuperLoRA
from ..errors import AdapterError, ConfigError, nearest
from ..models.classifier import Classifier
from ..runs.source import Source, open_of_either_task
from .classifiers import require_format, write_merged_classifier, write_peft_classifier
from .factors import ErrorReport, Pair, Precision, factor_adapter, report_errors
from .merging import write_merged
from .places import Pipeline, parts_of, place_of, read_pipeline
from .writing import require_loader, write_diffusers, write_kohya, write_peft

FORMATS = ("diffusers", "peft", "kohya", "merged")


@dataclass(frozen=True)
class Export:
    """What was written."""

    format: str
    path: Path
    report: ErrorReport | None
    """None for merged weights, which hold the update itself."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        report = None if self.report is None else asdict(self.report)
        return {"format": self.format, "path": str(self.path), "report": report}


@dataclass(frozen=True)
class Attached:
    """An adapter on its network, and what the network belongs to: a pipeline or a classifier."""

    network: nn.Module
    adapter: SuperLoRA
    folder: Path | None
    """The pipeline's; None of a classifier."""
    base: str | None = None
    """What the base is called: an embedded name, a folder or a hub id."""
    name: str = "adapter"
    weights: str = ""
    """Which weights: see ``Source``."""
    variant: str | None = None
    """Of the files of the base's weights, such as fp16."""
    classifier: Classifier | None = None


def check_request(format: str, out: Path, precision: Precision) -> None:
    """Refuse what cannot work, before anything is loaded.

    Raises:
        ConfigError: for an unknown format, a rank for merged weights, a place that is taken or of the wrong kind.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"format {format!r} is unknown.{nearest(format, FORMATS)} Accepted: {', '.join(FORMATS)}."
        )
    if format == "merged" and precision != Precision():
        raise ConfigError("format merged holds the update itself; leave --rank and --max-error out.")
    is_file = out.suffix == ".safetensors"
    if format == "kohya" and not is_file:
        raise ConfigError(f"format kohya writes one file, got --out {out}; name it like {out}.safetensors.")
    if format != "kohya" and is_file:
        raise ConfigError(f"format {format} writes a folder, got --out {out}; name a folder.")
    require_free(out)


def require_free(out: Path) -> None:
    """Refuse a place that holds something: a folder is written whole, so what is there would be lost.

    Raises:
        ConfigError: unless nothing, or an empty folder, is there.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is there already; choose another place, or remove it.")


def open_adapter(path: str, base: str | None = None) -> Attached:
    """Open a run or an adapter folder with a SuperLoRA adapter.

    Raises:
        AdapterError: for a base alone, a fully trained network or another method's adapter.
    """
    source = open_of_either_task(path, base)
    if source.adapter is None:
        raise AdapterError(f"{path} holds no adapter; name a run trained with one, or an adapter folder.")
    if not isinstance(source.adapter, SuperLoRA):
        raise AdapterError(
            f"{path} was trained by method {source.adapter.method!r}; export and merge take SuperLoRA adapters."
        )
    return _attached(source, source.adapter)


def _attached(source: Source, adapter: SuperLoRA) -> Attached:
    base, told = source.base, (source.base.name, source.name, source.weights)
    if isinstance(base, Classifier):
        return Attached(base.network, adapter, None, *told, classifier=base)
    return Attached(base.network, adapter, base.parts.folder, *told, base.parts.variant)


def export_adapter(
    attached: Attached,
    format: str,
    out: Path,
    precision: Precision | None = None,
    on_target: Callable[[], object] = lambda: None,
) -> Export:
    """Write an adapter in the format of another tool.

    Args:
        attached: the adapter.
        format: one of :data:`FORMATS`.
        out: a folder, or for kohya a .safetensors file.
        precision: how far updates may be approximated.
        on_target: called after each target that is factored.

    Raises:
        BaseModelError: for a pipeline that the format does not serve.
        AdapterError: for an update that no LoRA holds.
        ConfigError: for arguments that do not go together.
    """
    precision = precision or Precision()
    check_request(format, out, precision)
    if attached.classifier is not None:
        require_format(format)
    if format == "merged":
        return merge_adapter(attached, out)
    pipeline = None
    if format != "peft":
        pipeline = read_pipeline(attached.folder)
        require_loader(pipeline, format)  # said before the long part
    factored = factor_adapter(attached.adapter, precision, on_target)
    pairs = {target.name: target.weights() for target in factored}
    path = _write(format, attached, pairs, pipeline, out)
    return Export(format, path, report_errors(factored, attached.adapter.num_parameters))


def _write(
    format: str, attached: Attached, inside: Mapping[str, Pair], pipeline: Pipeline | None, out: Path
) -> Path:
    if attached.classifier is not None:
        return write_peft_classifier(attached.classifier, inside, out, attached.base)
    pairs = {place_of(attached.network, target): pair for target, pair in inside.items()}
    if format == "peft":
        return write_peft(pairs, out, attached.base)
    if format == "diffusers":
        return write_diffusers(pairs, pipeline, out)
    denoiser = next(iter(parts_of(attached.network).values()))
    return write_kohya(pairs, pipeline, out, denoiser.config)


def merge_adapter(attached: Attached, out: Path, scale: float | None = None) -> Export:
    """Write the base's pipeline, or the classifier, with the adapter's update in its weights.

    Args:
        attached: the adapter.
        out: the new folder.
        scale: run-time scale of the update; as stored by default.

    Raises:
        BaseModelError: if the base's folder is not a whole pipeline.
        AdapterError: for a scale that is not finite.
    """
    check_request("merged", out, Precision())
    pipeline = None if attached.folder is None else read_pipeline(attached.folder)
    if scale is not None:
        attached.adapter.set_scale(scale)
    origin = {"base": attached.base, "adapter": attached.name, "weights": attached.weights}
    if attached.classifier is not None:
        write_merged_classifier(attached.classifier, attached.adapter, out, origin)
    else:
        write_merged(attached.network, attached.adapter, pipeline, out, origin, attached.variant)
    return Export("merged", out, None)
