"""Families of networks: what differs between them stands in one file each, behind one interface.

A new family is one new file here with a ``FAMILY``; it is found by its network's config.json.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from ...errors import BaseModelError
from .family import Family


@cache
def all_families() -> tuple[Family, ...]:
    """Every family, in the order of their files' names. No network class is loaded."""
    found = []
    for module in pkgutil.iter_modules(__path__):
        family = getattr(importlib.import_module(f".{module.name}", __name__), "FAMILY", None)
        if family is not None:
            found.append(family)
    return tuple(found)


def family_of_network(config: dict[str, Any], where: str) -> Family:
    """The family that drives a network.

    Args:
        config: the network's config.json.
        where: what holds it, for the message.

    Raises:
        BaseModelError: if there is none.
    """
    for family in all_families():
        if family.drives(config):
            return family
    known = ", ".join(f"{family.network} ({family.title})" for family in all_families())
    raise BaseModelError(
        f"{where} holds a {config.get('_class_name')}, which no family here drives. Accepted: {known}."
    )
