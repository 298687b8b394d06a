"""Where an adapter lies: a folder, or a repository of the hub that is downloaded into its cache."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..errors import AdapterError, HubError
from ..hub.download import download_snapshot, is_hub_id
from .reading import CONFIG, FILES, read_adapter_config

_OF_A_BASE = "model_index.json"  # asked for too, so that a base's repository is told by what it has


def find_adapter_folder(
    source: Path | str, revision: str | None = None, subfolder: str | None = None
) -> Path:
    """The local folder of an adapter. A folder that is there wins over the hub.

    Args:
        source: a folder, or a hub id ("user/name").
        revision: branch, tag or commit of a hub id.
        subfolder: where in the folder or the repository the adapter lies.

    Raises:
        AdapterError: if the hub does not give it, or has no adapter there.
    """
    folder, inside = Path(source).expanduser(), _check_subfolder(subfolder)
    if folder.exists() or not is_hub_id(str(source)):
        if revision is not None:
            raise AdapterError(
                f"{source} is a place on this machine, which has no revision {revision!r}; leave revision out, or "
                "give a hub id ('user/name') that is no folder here."
            )
        return folder / inside
    try:
        found = download_adapter(str(source), revision, inside)
    except HubError as error:
        raise AdapterError(f"{source} is no folder here. As a hub id: {error}") from error
    if found is None:
        raise AdapterError(
            f"{source} is no folder here, and the hub's repository of that name holds no adapter: it has no "
            f"{PurePosixPath(inside, CONFIG)}. Name the adapter's folder by subfolder, or its branch by revision."
        )
    return found


def download_adapter(
    repo_id: str,
    revision: str | None = None,
    subfolder: str = "",
    also: Sequence[str] = (),
    what: str = "adapter",
) -> Path | None:
    """The cached folder of an adapter on the hub, or None where the repository has none.

    Its config is fetched first, and its weights only if they are ours to read.

    Args:
        repo_id: "user/name".
        revision: branch, tag or commit; None is the main branch.
        subfolder: where in the repository it lies.
        also: further files to fetch where they are there.
        what: what it is called in messages.

    Raises:
        HubError: if the hub does not give it.
        AdapterError: if the config is another library's, broken, or of a format this version does not know.
    """
    place = PurePosixPath(glob.escape(subfolder))
    snapshot = download_snapshot(repo_id, revision, [str(place / CONFIG), _OF_A_BASE], what)
    if not (snapshot / subfolder / CONFIG).is_file():
        return None
    read_adapter_config(snapshot / subfolder)
    # The same commit, whatever was pushed in between.
    wanted = [str(place / name) for name in (*FILES, *also)]
    return download_snapshot(repo_id, snapshot.name, wanted, what) / subfolder


def _check_subfolder(subfolder: str | None) -> str:
    path = PurePosixPath(subfolder or "")
    if path.is_absolute() or ".." in path.parts:
        raise AdapterError(
            f"subfolder {subfolder!r} leads out of the adapter's place; give a folder inside it."
        )
    return "" if str(path) == "." else str(path)
