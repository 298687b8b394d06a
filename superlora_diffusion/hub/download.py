"""Downloads into the hub's own cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .explaining import explained

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_ID = re.compile(f"{_NAME}/{_NAME}")


def is_hub_id(text: str) -> bool:
    """Whether a text has the form of an id, ``user/name``. A path may have it, too: look for the folder first."""
    return bool(_ID.fullmatch(text)) and "--" not in text and ".." not in text and not text.endswith(".git")


def download_snapshot(
    repo_id: str, revision: str | None, allow_patterns: Sequence[str], what: str = "repository"
) -> Path:
    """The cached folder of a model repository at one commit, with the files asked for as far as there are any.

    What is in the cache is not fetched again. The folder is named by its commit, which can be given as ``revision`` to
    fetch more of the same state; it may be missing where no file matches.

    Args:
        repo_id: "user/name".
        revision: branch, tag or commit; None is the main branch.
        allow_patterns: names with wildcards, relative to the repository.
        what: the thing that is fetched, as the message calls it.

    Raises:
        HubError: if it is missing, gated, not accessible, or neither in the cache nor within reach.
    """
    from huggingface_hub import snapshot_download

    with explained(what, repo_id, revision):
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(allow_patterns)))
