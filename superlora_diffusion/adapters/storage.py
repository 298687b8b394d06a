"""Adapters on disk: the trained numbers as safetensors, everything else as JSON, written last. No pickle."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import __version__
from ..errors import AdapterError, ConfigError, nearest
from ..files import write_atomically, write_json
from .arrays import checksum_of, follow_from_base
from .attaching import attach_to_targets
from .checksum import checksums_agree
from .config import SuperLoRAConfig
from .denoiser import denoiser_of, network_for
from .fingerprint import fingerprint, fingerprints_agree
from .host import host_of
from .module import SuperLoRA
from .naming import Target
from .places import parameter_in, split_name
from .projection import Arrays
from .reading import CONFIG, FORMAT_VERSION, PROJECTION, WEIGHTS, read_adapter_config
from .remote import find_adapter_folder
from .targets import adaptable_places


@dataclass(frozen=True)
class AdapterCard:
    """What an adapter's file says of where it came from."""

    base: str | None = None
    """The base: an embedded name, a folder or a hub id."""
    base_settings: Mapping[str, Any] = field(default_factory=dict)
    """How the base was read, where it does not say so itself (revision, null class, class names)."""
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    classification: Mapping[str, Any] = field(default_factory=dict)
    """Of an adapter of a classifier: its classes, and how many numbers of the head trained beside it."""

    def told(self) -> dict[str, Any]:
        """What it adds to an adapter's file, beside the base."""
        told = {"data": dict(self.data), "training": dict(self.training)}
        return {**told, "classification": dict(self.classification)} if self.classification else told


def save_adapter(
    adapter: SuperLoRA, folder: Path | str, card: AdapterCard | None = None, store_projection: bool = False
) -> None:
    """Write an adapter folder, each file whole or not at all, the config last.

    Args:
        adapter: what to write.
        folder: made if it is not there.
        card: base, data and training to note down.
        store_projection: also write the fixed arrays, so that the adapter outlives the random generator. They are
            written in any case where they follow from another base than the one it is attached to.
    """
    store_projection |= adapter.has_own_arrays and follow_from_base(adapter.config.projection)
    folder, card = Path(folder), card or AdapterCard()
    numbers = {name: value.detach().cpu().contiguous() for name, value in adapter.named_parameters()}
    write_atomically(folder / WEIGHTS, lambda partial: save_file(numbers, partial))
    stored = {
        f"g{i}_{key}": value.cpu() for i, fixed in enumerate(adapter.arrays()) for key, value in fixed.items()
    }
    if store_projection and stored:
        write_atomically(folder / PROJECTION, lambda partial: save_file(stored, partial))
    else:
        (folder / PROJECTION).unlink(missing_ok=True)
    write_json(folder / CONFIG, _describe(adapter, card, store_projection and bool(stored)))


def _describe(adapter: SuperLoRA, card: AdapterCard, stored: bool) -> dict[str, Any]:
    targets = zip(adapter.targets, adapter._shapes, strict=True)
    return {
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        "parameters": adapter.num_parameters,
        "scale": adapter.scale,
        "run_scale": adapter.run_scale,
        "config": adapter.config.model_dump(mode="json"),
        "targets": [{**target._asdict(), "shape": list(shape)} for target, shape in targets],
        "projection_checksum": checksum_of(adapter.config, adapter.arrays(), stored),
        "projection_stored": stored,
        "base": {
            "id": card.base,
            "settings": dict(card.base_settings),
            "fingerprint": fingerprint(base_weights(adapter._model)),
        },
        **card.told(),
    }


def base_weights(network: nn.Module) -> dict[str, Tensor]:
    """All of the base's own weights by name, also while something is attached or merged into them."""
    host, parameters = host_of(network), dict(network.named_parameters())
    if host is None:
        return parameters
    return {name: host.originals.get(name, parameters[name]) for name in host.required_grad}


def stored_config(described: Mapping[str, Any]) -> SuperLoRAConfig:
    """The settings in an adapter's config. Those written before there was ``step`` mean plain steps.

    Raises:
        KeyError, ConfigError: if there are none, or broken ones.
    """
    return SuperLoRAConfig(**{"step": "plain", **described["config"]})


class Stored(NamedTuple):
    """What the config of a SuperLoRA adapter's folder says that its updates depend on, and its base."""

    config: SuperLoRAConfig
    targets: list[Target]
    shapes: list[tuple[int, ...]]
    """Of the targets' weights."""
    run_scale: float
    has_arrays: bool
    """Whether the fixed arrays lie in the folder."""
    checksum: dict | None
    """Of the fixed arrays."""
    base: dict[str, Any]


def read_stored(folder: Path) -> Stored:
    """Read the config of a SuperLoRA adapter's folder.

    Raises:
        AdapterError: if it is missing or broken, or is that of another method.
    """
    described = read_adapter_config(folder)
    if described.get("kind") is not None:
        raise AdapterError(
            f"{folder} holds no SuperLoRA adapter but method {described.get('method')!r}; open it with load_peer."
        )
    try:
        return Stored(
            stored_config(described),
            [Target(t["name"], t["out_features"], t["in_features"]) for t in described["targets"]],
            [tuple(t["shape"]) for t in described["targets"]],
            described["run_scale"],
            described["projection_stored"],
            described["projection_checksum"],
            described["base"],
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise AdapterError(f"{folder / CONFIG} is broken: {type(error).__name__}: {error}") from error


def load_adapter(
    model: nn.Module | Any,
    folder: Path | str,
    name: str = "default",
    *,
    revision: str | None = None,
    subfolder: str | None = None,
) -> SuperLoRA:
    """Attach a stored adapter. Targets are found by name and checked by shape, never by traversal order.

    Args:
        model: the network to attach to, or a diffusers pipeline, whose ``unet`` or ``transformer`` is taken.
        folder: an adapter folder, or a hub id ("user/name") that is no folder here: the adapter's files are downloaded
            into the hub's cache, with the login of ``hf auth login`` where there is one.
        name: a name among the adapters of this network.
        revision: branch, tag or commit of a hub id.
        subfolder: where in the folder or the repository the adapter lies.

    Raises:
        AdapterError: for an id that the hub does not give, a missing or broken file, a target the network lacks, a
            wrong shape, or a projection that this machine draws differently.

    Warns:
        UserWarning: if the base's weights are not those the adapter was trained on.
    """
    denoiser_of(model)  # what is neither network nor pipeline is told first, before anything is fetched
    folder = find_adapter_folder(folder, revision, subfolder)
    stored = read_stored(folder)
    model = network_for(model, [split_name(target.name)[0] for target in stored.targets])
    check_targets(model, stored.targets, stored.shapes, folder)
    numbers = read_tensors(folder / WEIGHTS)
    arrays = read_arrays(folder) if stored.has_arrays else None
    adapter = attach_to_targets(model, stored.config, stored.targets, name, arrays)
    try:
        check_arrays(stored, adapter.arrays(), folder)
        _load_numbers(adapter, numbers, folder / WEIGHTS)
        adapter.set_scale(stored.run_scale)
    except AdapterError:
        adapter.unload()
        raise
    warn_of_another_base(stored, fingerprint(base_weights(model)), folder)
    return adapter


def warn_of_another_base(stored: Stored, here: Mapping[str, Any], folder: Path) -> None:
    """Warn if an adapter was trained on other weights than those whose fingerprint is ``here``."""
    if not fingerprints_agree(stored.base["fingerprint"], here):
        follows = follow_from_base(stored.config.projection) and not stored.has_arrays
        but = (
            "lies along this network's singular directions instead of its"
            if follows
            else "is added all the same"
        )
        warnings.warn(
            f"{folder} was trained on another base ({stored.base['id']}): the weights it adapts differ from "
            f"this network's. Its update {but}.",
            stacklevel=3,
        )


def check_targets(
    model: nn.Module, targets: list[Target], shapes: list[tuple[int, ...]], folder: Path
) -> None:
    layers = adaptable_places(model)
    for target, shape in zip(targets, shapes, strict=True):
        if target.name not in layers:
            raise AdapterError(
                f"{folder} adapts {target.name!r}, which {type(model).__name__} does not have."
                f"{nearest(target.name, layers)} Is this the right base?"
            )
        here = tuple(parameter_in(layers[target.name], target.name).shape)
        if here != shape:
            raise AdapterError(
                f"{folder} adapts {target.name!r} as a weight of shape {shape}; here it has {here}. "
                "Is this the right base?"
            )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        AdapterError: if it is missing or broken.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} cannot be read: {error}") from error


def read_arrays(folder: Path) -> list[Arrays]:
    """The fixed arrays of each group that lie in an adapter's folder.

    Raises:
        AdapterError: if their file is missing or broken.
    """
    groups: dict[int, Arrays] = {}
    for key, value in read_tensors(folder / PROJECTION).items():
        group, name = key.removeprefix("g").split("_", 1)
        groups.setdefault(int(group), {})[name] = value
    return [groups[index] for index in sorted(groups)]


def check_arrays(stored: Stored, arrays: Sequence[Arrays], folder: Path) -> None:
    """Check fixed arrays against the checksum in an adapter's folder.

    Raises:
        AdapterError: if they are others than those it was trained with.
    """
    drawn = checksum_of(stored.config, arrays, stored.has_arrays)
    if not checksums_agree(stored.checksum, drawn):
        if follow_from_base(stored.config.projection):
            raise AdapterError(
                f"the singular directions stored in {folder} have been changed since; get it anew."
            )
        raise AdapterError(
            f"the fixed projection of {folder} (checksum {_short(stored.checksum)}) differs from the one drawn here "
            f"({_short(drawn)}): torch {torch.__version__} may draw other random numbers. Save the adapter with "
            "store_projection=True where it was trained."
        )


def _short(value: dict | None) -> str:
    return "none" if value is None else str(value["integers"])[:12]


def check_numbers(expected: Mapping[str, tuple[int, ...]], numbers: Mapping[str, Tensor], path: Path) -> None:
    """Check that a file holds exactly the tensors that train.

    Args:
        expected: their shapes by name.
        numbers: what the file holds.
        path: the file.

    Raises:
        AdapterError: naming the first that is missing, too much or of another shape.
    """
    found = {name: tuple(value.shape) for name, value in numbers.items()}
    if expected != found:
        wrong = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        first = wrong[0]
        raise AdapterError(
            f"{path} does not hold what its config says: {first} is {found.get(first, 'missing')}, expected "
            f"{expected.get(first, 'nothing')} ({len(wrong)} of {len(expected)} tensors differ)."
        )


def _load_numbers(adapter: SuperLoRA, numbers: dict[str, Tensor], path: Path) -> None:
    check_numbers({name: tuple(value.shape) for name, value in adapter.named_parameters()}, numbers, path)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            parameter.copy_(numbers[name])
