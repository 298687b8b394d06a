"""Several adapters on one base, each with a weight: what ``sample --adapter A=0.7 --adapter B=0.3`` draws from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..adapters.bank import AdapterBank
from ..adapters.reading import read_adapter_config
from ..errors import AdapterError, ConfigError, RunError
from ..models.base import Base
from ..models.config import BaseSettings
from ..models.storage import load_base
from ..peers.storage import is_peer
from .config import RunConfig
from .source import Found, Source, Used, digest_of, find_stored, load_base_of, open_source

_NAMED = 3  # adapters of a mix in its name
Member = tuple[Found, float]
"""An adapter and its weight."""


def open_mixed(path: str | None, base: str | None = None, adapters: Sequence[str] = ()) -> Source:
    """Open a source with adapters added to it; without any, what :func:`open_source` opens.

    Args:
        path: a base, or a run or an adapter, which is then the first of the mix, with weight 1. None: the base that
            the adapters have in common, and the first one's run says how to sample.
        base: the base to use instead of the one that the adapters name.
        adapters: run folders, adapter folders or hub ids, each perhaps with ``=WEIGHT`` after it.

    Returns:
        the source; its adapter is a bank with the mix in use.

    Raises:
        ConfigError: for a weight that is no number, adapters of different bases, or nothing to open.
        AdapterError: for what holds no adapter, or one of another method.
        RunError, BaseModelError, HubError: if a part cannot be opened.
    """
    if not adapters:
        if path is None:
            raise ConfigError("nothing to draw from: name a run, an adapter or a base, or give --adapter.")
        return open_source(path, base)
    added = [_find(*parse_member(text)) for text in adapters]
    own = None if path is None else find_stored(path)
    members = added if own is None else [(_mixable(own), 1.0), *added]
    loaded, config = _load_base(path, base, own, added)
    bank, used = _fill(loaded, members)
    name = _name([] if path is None or own else [Path(path).name or path], [one.name for one in used])
    return Source(name, loaded, bank, config, _digest(used), mixed=used)


def _name(base: list[str], adapters: list[str]) -> str:
    """The base's name, where it was given, and a few of the adapters'; folders are named after it."""
    shown, more = adapters[:_NAMED], len(adapters) - _NAMED
    return "+".join([*base, *shown, *([f"{more}-more"] if more > 0 else [])])


def parse_member(text: str) -> tuple[str, float]:
    """A path or hub id and its weight, from ``ADAPTER`` (weight 1) or ``ADAPTER=WEIGHT``.

    Raises:
        ConfigError: for a weight that is no finite number.
    """
    path, sign, number = text.rpartition("=")
    if not sign or Path(text).expanduser().exists():
        return text, 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not path or not math.isfinite(weight):
        raise ConfigError(
            f"--adapter {text} is no folder here and not of the form ADAPTER=WEIGHT with a finite number, such as "
            "runs/demo=0.7."
        )
    return path, weight


def _find(path: str, weight: float) -> Member:
    found = find_stored(path)
    if found is None:
        raise AdapterError(
            f"--adapter {path} holds no adapter: an adapter folder, a run that trained one, or an adapter's hub id is "
            "accepted. A base is given as SOURCE."
        )
    return _mixable(found), weight


def _mixable(found: Found) -> Found:
    described = read_adapter_config(found.folder)
    if is_peer(described):
        raise AdapterError(
            f"{found.told} was trained by method {described.get('method')!r}, and only SuperLoRA adapters can be "
            "mixed; draw from it alone, without --adapter."
        )
    return found


def _load_base(
    path: str | None, base: str | None, own: Found | None, added: Sequence[Member]
) -> tuple[Base, RunConfig | None]:
    """The base, and the run's config that says how to sample."""
    if own is not None:
        return load_base_of(own, base), own.config
    if path is not None:
        source = open_source(path, base)
        return source.base, source.config
    config = added[0][0].config
    if base is not None:
        return load_base(BaseSettings(path=base)), config
    return load_base_of(_first_of_common_base([found for found, _ in added]), None), config


def _first_of_common_base(found: Sequence[Found]) -> Found:
    """The first adapter that says its base, which must be every other's that says one."""
    told = [one for one in found if one.base is not None]
    if not told:
        raise RunError("none of the adapters says which base it was trained on; give the base as SOURCE.")
    if any(place_of(one.base) != place_of(told[0].base) for one in told):
        bases = "; ".join(f"{one.told}: {one.base.path or 'built afresh'}" for one in told)
        raise ConfigError(f"the adapters name different bases; give the one to use as SOURCE. {bases}.")
    return told[0]


def place_of(base: BaseSettings) -> BaseSettings:
    """The base's settings, its folder by one name, so that those of one base are equal."""
    folder = Path(base.path or "").expanduser()
    if base.path is None or not folder.is_dir():
        return base
    return base.model_copy(update={"path": str(folder.resolve())})


def _fill(base: Base, members: Sequence[Member]) -> tuple[AdapterBank, tuple[Used, ...]]:
    bank = AdapterBank(base.network)
    used = []
    for found, weight in members:
        name = _unused(found.name, bank)
        bank.add(name, found.folder)
        used.append(Used(name, found.told, weight, bank.count(name), digest_of(found)))
    bank.use({one.name: one.weight for one in used})
    return bank, tuple(used)


def _unused(name: str, taken: Iterable[str]) -> str:
    """The name, or where folders have the same one: name-2, name-3, ..."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _digest(used: Sequence[Used]) -> str:
    """Of one adapter in full its own; else over every digest and weight."""
    if len(used) == 1 and used[0].weight == 1:
        return used[0].digest
    lines = "".join(f"{one.digest} {one.weight!r}\n" for one in used)
    return hashlib.sha256(lines.encode()).hexdigest()[:12]
