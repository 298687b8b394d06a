"""What the page begins with. Imports nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """What the page begins with."""

    sources: Sequence[str] = ()
    """To choose from as A and B; the first is A."""
    sweep: str = ""
    """A folder whose front is shown."""
