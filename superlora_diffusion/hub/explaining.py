"""What the hub's client raises, as one error that says what came, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import HubError

_LOG_IN = "log in on this machine by: hf auth login"


@contextmanager
def explained(what: str, repo_id: str, revision: str | None = None) -> Iterator[None]:
    """Turn whatever a call of the hub's client raises inside the block into a :class:`HubError`.

    Args:
        what: the thing that is fetched or sent, as the message calls it ("adapter", "base").
        repo_id: "user/name".
        revision: the branch, tag or commit that was asked for.
    """
    try:
        yield
    except HubError:
        raise
    except (
        Exception
    ) as error:  # the client has no common class: HTTP, network, cache and value errors come as they are
        reason, text = _explain(error, repo_id, revision)
        raise HubError(f"{what} {repo_id!r}: {text}", reason) from error


def page_of(repo_id: str) -> str:
    """The address of a repository's page."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo_id}"


def _explain(error: Exception, repo_id: str, revision: str | None) -> tuple[str, str]:
    """(reason, text). The order matters: a gated repository is a missing one to the client."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return _explain_absence(error, repo_id, revision)
    if isinstance(error, errors.HFValidationError):
        return "invalid", f"this is no id of the hub ({_first_line(error)}). Expected user/name."
    if isinstance(error, errors.GatedRepoError):
        text = f"the repository is gated. Accept its terms on {page_of(repo_id)}, then {_LOG_IN}"
        return "gated", text
    if isinstance(error, errors.RevisionNotFoundError):
        text = f"the repository has no revision {revision!r}. Give one of its branches, tags or commits: "
        return "revision", f"{text}{page_of(repo_id)}/tree/main"
    if isinstance(error, errors.RepositoryNotFoundError):
        text = "the hub has no such repository, or shows it to others only. Check the id: "
        return "missing", f"{text}{page_of(repo_id)}; for a private one {_LOG_IN}"
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error, repo_id)
    return "unreachable", f"the hub cannot be reached ({_told(error)}). Check the network and try again."


def _explain_absence(error: Exception, repo_id: str, revision: str | None) -> tuple[str, str]:
    """What is not in the cache and could not be asked for: by choice, by refusal, or for want of a network."""
    from huggingface_hub import constants, errors

    wanted = "it" if revision is None else f"revision {revision!r}"
    absent = f"{wanted} is not (or not whole) in the cache ({constants.HF_HUB_CACHE})"
    if constants.HF_HUB_OFFLINE:
        text = f"{absent}, and HF_HUB_OFFLINE forbids to ask the hub. Unset HF_HUB_OFFLINE, or give a folder."
        return "offline", text
    if isinstance(error.__cause__, errors.HfHubHTTPError):
        return _explain(error.__cause__, repo_id, revision)
    cause = _told(error.__cause__ or error)
    return (
        "unreachable",
        f"the hub cannot be reached ({cause}), and {absent}. Check the network and try again.",
    )


def _explain_status(error: Exception, repo_id: str) -> tuple[str, str]:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        text = f"the hub says that you may not ({status}: {_first_line(error)}). Check whose {page_of(repo_id)} is"
        return "unauthorised", f"{text}, and {_LOG_IN}, with a token that may do this."
    return "refused", f"the hub refused ({_told(error)}). Try again later."


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no reason given"
