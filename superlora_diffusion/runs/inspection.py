"""``inspect``: what an adapter's folder and its run say of it. No network is loaded."""

from __future__ import annotations

import hashlib
import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..adapters.config import SuperLoRAConfig
from ..adapters.low_rank import LowRank, find_low_rank, products_threshold
from ..adapters.naming import Target, count_in_words
from ..adapters.places import is_vector, sizes_of
from ..adapters.plan import make_plan
from ..adapters.reading import CONFIG, FILES, WEIGHTS, read_adapter_config
from ..adapters.storage import stored_config
from ..adapters.variants import VARIANTS
from ..errors import AdapterError, RunError
from ..peers.storage import is_peer
from .family import adapter_family
from .folder import RunFolder
from .history import History, history_of
from .source import download_published


@dataclass(frozen=True)
class Route:
    """How an update reaches its layer: as two small products for fewer tokens than that, else added to the weight."""

    products_below: int | None
    """None: as products at any number of tokens; 1 (a layer has at least one): always added to the weight."""

    @property
    def text(self) -> str:
        """In words."""
        if self.products_below is None:
            return "two small products"
        if self.products_below <= 1:
            return "added to the weight"
        return f"two small products below {self.products_below:,} tokens, else added to the weight"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: "products", "weight", or "tokens" where their number decides."""
        if self.products_below is None:
            return {"route": "products", "products_below": None}
        if self.products_below <= 1:
            return {"route": "weight", "products_below": None}
        return {"route": "tokens", "products_below": self.products_below}


ALWAYS_PRODUCTS, ALWAYS_WEIGHT = Route(None), Route(1)


@dataclass(frozen=True)
class ShapeRoutes:
    """Targets of one shape (and rank), and how their updates reach them with and without a backward pass."""

    shape: tuple[int, int]
    """(out, in)"""
    count: int
    rank: int | None
    """Of the update of each; None where it is not of low rank matrix by matrix."""
    training: Route
    inference: Route

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        ways = {"training": self.training.as_dict(), "inference": self.inference.as_dict()}
        return {"shape": list(self.shape), "count": self.count, "rank": self.rank, **ways}


@dataclass(frozen=True)
class TargetRoutes:
    """The targets of a SuperLoRA adapter."""

    patterns: tuple[str, ...]
    route: str
    """What its config asks for: auto, weight or products."""
    count: int
    weights: int
    """N."""
    convolutions: int
    vectors: int
    shapes: tuple[ShapeRoutes, ...]
    """The most frequent first."""

    @property
    def counted(self) -> str:
        """How many they are, in words."""
        return count_in_words(self.count, self.vectors)

    @property
    def depends_on_cost(self) -> bool:
        """Whether a closed-form cost chooses the route of some target."""
        return self.route == "auto" and any(row.rank is not None for row in self.shapes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "patterns": list(self.patterns),
            "route": self.route,
            "count": self.count,
            "weights": self.weights,
            "convolutions": self.convolutions,
            "vectors": self.vectors,
            "shapes": [row.as_dict() for row in self.shapes],
        }


@dataclass(frozen=True)
class Head:
    """What names the classes of an adapted classifier."""

    classes: int
    parameters: int
    """How many of its numbers trained beside the adapter; 0 for the base's own head."""


class Inspection(NamedTuple):
    """What an adapter's folder says."""

    folder: Path
    method: str
    """superlora, or a peer's."""
    name: str
    """The family of a SuperLoRA adapter; what trains, in words, of a peer."""
    settings: dict[str, Any]
    """Of SuperLoRA those that differ from the defaults, the variant among them; of a peer all."""
    scale: float | None
    """The effective scale; None for a peer, which has none."""
    step_factors: tuple[float, float] | None
    """The smallest and the largest factor that the groups' updates have beside it; None for a peer."""
    parameters: int
    base: str | None
    training: dict[str, Any]
    data: dict[str, Any]
    files: dict[str, int]
    """Bytes of each file of the adapter."""
    sha256: str
    """Of the file of its weights."""
    library: str | None
    """The version of this library that wrote it."""
    history: History | None
    """What its run says; None for an adapter that lies in none."""
    targets: TargetRoutes | None
    """None for a peer."""
    head: Head | None
    """None for an adapter of what draws images."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        head = None if self.head is None else asdict(self.head)
        targets = None if self.targets is None else self.targets.as_dict()
        history = None if self.history is None else self.history.as_dict()
        factors = None if self.step_factors is None else list(self.step_factors)
        parts = {"targets": targets, "history": history, "step_factors": factors, "head": head}
        return {**self._asdict(), "folder": str(self.folder), **parts}


def inspect_adapter(path: str | Path) -> Inspection:
    """Read an adapter's folder, and what its run says where it lies in one.

    Args:
        path: an adapter folder, a finished run folder, or a hub id.

    Raises:
        HubError: if the hub does not give what is no folder here.
        AdapterError: for a folder without an adapter, or one that is broken or incomplete.
        RunError: for a run that is not finished.
    """
    folder = find_adapter(path)
    described = read_adapter_config(folder)
    try:
        kind = described.get("kind")
        if kind is not None and not is_peer(described):
            raise ValueError(f"kind {kind!r} is unknown; upgrade if a newer version wrote it")
        parts = _peer(described) if is_peer(described) else _superlora(described)
        base = _mapping(described, "base").get("id")
        training, data = (_mapping({key: {}, **described}, key) for key in ("training", "data"))
        head = _head(described)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a ConfigError is a ValueError
        raise AdapterError(f"{folder / CONFIG} is broken: {type(error).__name__}: {error}") from error
    files, sha256 = _sizes(folder), _sha256(folder / WEIGHTS)
    return Inspection(
        folder=folder,
        base=base,
        training=training,
        data=data,
        files=files,
        sha256=sha256,
        library=described.get("library_version"),
        history=history_of(folder, sha256),
        head=head,
        **parts,
    )


def find_adapter(path: str | Path) -> Path:
    """The adapter folder that is meant by its own path, by its run's, or by a hub id.

    Raises:
        AdapterError: if there is none.
        HubError: if the hub does not give what is no folder here.
        RunError: for a run that is not finished.
    """
    published = download_published(str(path))
    if published is not None:
        return published
    folder = Path(path).expanduser()
    run = RunFolder(folder)
    for place in (folder, run.adapter):
        if (place / CONFIG).is_file():
            return place
    if not folder.is_dir():
        raise AdapterError(
            f"{path} is no folder here and no adapter on the hub; give an adapter folder, a run folder, or a hub id."
        )
    if not run.config.is_file():
        raise AdapterError(
            f"{folder} is neither an adapter folder (it has no {CONFIG}) nor a run folder (it has no config.yaml)."
        )
    if run.read_config().method == "full":
        raise AdapterError(f"{folder} was trained by method 'full': it holds a base, and no adapter.")
    raise RunError(
        f"{folder} is not finished. Go on with: superlora-diff train --config {run.config} output={folder}"
    )


def _superlora(described: dict[str, Any]) -> dict[str, Any]:
    config = stored_config(described)
    shapes = [_shape(entry) for entry in described["targets"]]
    names = [str(entry["name"]) for entry in described["targets"]]
    targets = [Target(name, *sizes_of(name, shape)) for name, shape in zip(names, shapes, strict=True)]
    plan = make_plan(config, targets)
    parameters = operator.index(described["parameters"])
    if parameters != plan.count:
        raise ValueError(f"it says that {parameters:,} numbers train; its settings make {plan.count:,}")
    factors = [group.factor for group in plan.groups]
    low_rank = find_low_rank(config, plan, shapes)
    found = TargetRoutes(
        patterns=config.targets,
        route=config.route,
        count=len(targets),
        weights=sum(target.size for target in targets),
        convolutions=sum(len(shape) > 2 for shape in shapes),
        vectors=sum(is_vector(target.name) for target in targets),
        shapes=tuple(_shape_routes(targets, low_rank, config.route)),
    )
    return {
        "method": "superlora",
        "name": adapter_family(config),
        "settings": changed_settings(config),
        "scale": float(described["scale"]),
        "step_factors": (min(factors), max(factors)),
        "parameters": parameters,
        "targets": found,
    }


def _head(described: dict[str, Any]) -> Head | None:
    if "classification" not in described:
        return None
    told = _mapping(described, "classification")
    return Head(len(told["class_names"]), operator.index(told["head_parameters"]))


def _shape(entry: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of a target: at least (out, in), of a vector (n,)."""
    shape = tuple(operator.index(side) for side in entry["shape"])
    says = (entry["out_features"], entry["in_features"])
    name = str(entry["name"])
    fewest = 1 if is_vector(name) else 2
    if len(shape) < fewest or min(shape) < 1 or says != sizes_of(name, shape):
        raise ValueError(f"target {entry['name']!r} of shape {list(shape)} cannot be {says[0]} x {says[1]}")
    return shape


def changed_settings(config: SuperLoRAConfig) -> dict[str, Any]:
    """The fields whose values differ from the defaults, and all that the variant fills: they make the config again."""
    defaults, filled = SuperLoRAConfig().model_dump(mode="json"), VARIANTS.get(config.variant, {})
    values = config.model_dump(mode="json")
    return {key: value for key, value in values.items() if value != defaults[key] or key in filled}


def _shape_routes(
    targets: list[Target], low_rank: Mapping[int, LowRank], route: str
) -> Iterable[ShapeRoutes]:
    ranks = [low_rank[index].rank if index in low_rank else None for index in range(len(targets))]
    kinds = Counter((target[1:], rank) for target, rank in zip(targets, ranks, strict=True))
    for (shape, rank), count in kinds.most_common():
        training, inference = (choose_route(route, *shape, rank, training) for training in (True, False))
        yield ShapeRoutes(shape, count, rank, training, inference)


def choose_route(route: str, out_features: int, in_features: int, rank: int | None, training: bool) -> Route:
    """How updates of one shape reach their layers in a forward that generates them.

    Args:
        route: what the config asks for.
        out_features, in_features: the shape.
        rank: of the update; None where it is not of low rank matrix by matrix.
        training: whether there is a backward pass.
    """
    if rank is None or route == "weight":
        return ALWAYS_WEIGHT
    if route == "products":
        return ALWAYS_PRODUCTS
    return Route(products_threshold(out_features, in_features, rank, training))


def _peer(described: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": str(described["method"]),
        "name": str(described["trains"]),
        "settings": _mapping(described, "settings"),
        "scale": None,
        "step_factors": None,
        "parameters": operator.index(described["parameters"]),
        "targets": None,
    }


def _mapping(described: dict[str, Any], key: str) -> dict[str, Any]:
    value = described[key]
    if not isinstance(value, dict):
        raise TypeError(f"{key} is {value!r}; names and values are expected")
    return value


def _sizes(folder: Path) -> dict[str, int]:
    if not (folder / WEIGHTS).is_file():
        raise AdapterError(f"{folder} is incomplete: it has no {WEIGHTS}.")
    paths = [folder / name for name in FILES]
    return {path.name: path.stat().st_size for path in paths if path.is_file()}


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
