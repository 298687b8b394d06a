"""``push``: an adapter with its card to the hub, in one commit; or into a folder, to look at it first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, field_validator

from ..errors import ConfigError, HubError
from ..files import write_folder_atomically
from ..hub.download import is_hub_id
from ..hub.explaining import explained, page_of
from ..settings import Settings
from .card import make_card
from .content import PUBLISHED, Content, read_content, write_content


class PushRequest(Settings):
    """Where to, and how.

    Raises:
        ConfigError: listing every fault.
    """

    repo_id: str
    """"user/name"."""
    private: bool = False
    """Make a new repository private; one that is there and public is refused."""
    revision: str | None = Field(None, min_length=1)
    """The branch, made if it is not there; main by default."""
    message: str | None = Field(None, min_length=1)
    """Of the commit."""
    license: str | None = Field(None, min_length=1)
    """An identifier that the hub knows, such as apache-2.0."""

    @field_validator("repo_id")
    @classmethod
    def _is_an_id(cls, value: str) -> str:
        if not is_hub_id(value):
            raise ValueError(f"got {value!r}; expected an id of the hub: user/name (or organisation/name)")
        return value


class Pushed(NamedTuple):
    """What was published."""

    place: str
    """The commit's address, or the folder of a dry run."""
    files: dict[str, int]
    """Bytes of each file."""


def dry_run(path: str, request: PushRequest, out: Path) -> Pushed:
    """Write into ``out`` exactly what would be uploaded. The hub is not asked.

    Raises:
        ConfigError: if ``out`` holds other files already.
        AdapterError, RunError, EvaluationError: see :func:`read_content`.
    """
    content = read_content(path)
    _refuse_others_files(out)
    card = make_card(content, request.repo_id, request.license)
    write_folder_atomically(out, lambda partial: write_content(content, card, partial))
    return Pushed(str(out), _sizes(out))


def push(path: str, request: PushRequest, say: Callable[[str], None] = lambda text: None) -> Pushed:
    """Upload a run's adapter, or an adapter folder. The repository is made if it is not there.

    One commit holds all; files that an earlier push left and this one does not have are removed by it.

    Args:
        path: a finished run folder, or an adapter folder.
        request: where to, and how.
        say: called with a line for each step.

    Raises:
        AdapterError, RunError, EvaluationError: see :func:`read_content`.
        HubError: if the hub refuses, cannot be reached, or the repository is public and was to be private.
    """
    content = read_content(path)
    card = make_card(content, request.repo_id, request.license)
    with tempfile.TemporaryDirectory(prefix="superlora-push-") as name:
        folder = Path(name)
        write_content(content, card, folder)
        files = _sizes(folder)
        with explained("repository", request.repo_id, request.revision):
            say(f"Asking for {page_of(request.repo_id)}")
            _prepare_repository(request)
            say(f"Uploading {len(files)} files, {sum(files.values()):,} bytes")
            return Pushed(_upload(content, request, folder), files)


def _prepare_repository(request: PushRequest) -> None:
    from huggingface_hub import HfApi

    api = HfApi(library_name="superlora-diffusion")
    api.create_repo(request.repo_id, private=True if request.private else None, exist_ok=True)
    # The hub ignores the wish where the repository is there already.
    if request.private and not api.repo_info(request.repo_id).private:
        raise HubError(
            f"{request.repo_id} is there already and public, and --private was asked for; nothing was uploaded. Make "
            f"it private on {page_of(request.repo_id)}/settings, take another name, or leave --private out.",
            "refused",
        )
    if request.revision is not None:
        api.create_branch(request.repo_id, branch=request.revision, exist_ok=True)


def _upload(content: Content, request: PushRequest, folder: Path) -> str:
    from huggingface_hub import HfApi

    told = f"{content.inspection.name} adapter of {content.inspection.parameters:,} parameters"
    commit = HfApi(library_name="superlora-diffusion").upload_folder(
        repo_id=request.repo_id,
        folder_path=folder,
        revision=request.revision,
        commit_message=request.message or f"Upload {told}",
        allow_patterns=list(PUBLISHED),
        delete_patterns=list(PUBLISHED),
    )
    return commit.commit_url


def _refuse_others_files(out: Path) -> None:
    """A folder is replaced whole, so it must be an earlier dry run's, or empty."""
    if out.is_file():
        raise ConfigError(f"--out {out} is a file; give a folder.")
    paths = out.rglob("*") if out.is_dir() else ()
    others = sorted(str(p.relative_to(out)) for p in paths if not p.is_dir())
    others = [name for name in others if name not in PUBLISHED]
    if others:
        raise ConfigError(f"--out {out} holds other files ({others[0]}); give a new folder, or an empty one.")


def _sizes(folder: Path) -> dict[str, int]:
    found: dict[str, Any] = {name: folder / name for name in PUBLISHED}
    return {name: path.stat().st_size for name, path in found.items() if path.is_file()}
