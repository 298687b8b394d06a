"""One exception family. Every message says what came, what was expected and what to do.

The command line catches :class:`SuperLoRAError` once, prints the message and exits with ``exit_code``;
nothing else is caught there, so that a traceback always means a fault of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class SuperLoRAError(Exception):
    """Anything a user can put right."""

    exit_code = 1
    label = "error"
    """What the command line prints before the message."""


class ConfigError(SuperLoRAError, ValueError):
    """A wrong name or value in a config, an override or an argument.

    ``faults`` holds every fault found, each a (dotted path, text) pair; the message lists them all.
    """

    exit_code = 2

    def __init__(self, message: str = "", faults: Sequence[tuple[str, str]] = ()) -> None:
        self.faults = list(faults)
        super().__init__(
            message or "\n".join(f"{path}: {text}" if path else text for path, text in self.faults)
        )


class DataError(SuperLoRAError):
    """A data set that is missing, broken or does not fit the base."""


class BaseModelError(SuperLoRAError):
    """A base that cannot be loaded or cannot do what was asked."""


class AdapterError(SuperLoRAError):
    """An adapter that cannot be attached, stored or loaded."""


class HubError(SuperLoRAError):
    """Something the Hugging Face Hub did not give or take."""

    def __init__(self, message: str, reason: str) -> None:
        self.reason = reason
        """missing, revision, gated, unauthorised, offline, unreachable, invalid or refused."""
        super().__init__(message)


class RunError(SuperLoRAError):
    """A run folder that is in use, was made from another config, or whose training broke off."""


class DivergedError(RunError):
    """Training whose loss or weights became infinite or not a number."""


class SamplingError(SuperLoRAError):
    """Sampling settings that do not fit the base."""


class EvaluationError(SuperLoRAError):
    """Scores that cannot be computed from what was given."""


def nearest(name: str, accepted: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the accepted name closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(item) for item in accepted], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
