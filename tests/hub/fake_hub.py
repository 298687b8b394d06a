"""A hub on this machine: the few endpoints that the real client asks for downloads and for a push, over HTTP.

What it knows is a list of repositories with their commits; what it was sent is kept, so that tests can look.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants as constants
import pytest

Files = dict[str, bytes]


@dataclass
class Repo:
    """Branches to commits to files."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Files] = field(default_factory=dict)

    def commit(self, files: Files, branch: str = "main") -> str:
        told = repr(sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items()))
        sha = hashlib.sha1(f"{len(self.commits)} {told}".encode()).hexdigest()
        self.branches[branch], self.commits[sha] = sha, dict(files)
        return sha

    def find(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> Files:
        return self.commits[self.branches[revision]]


class FakeHub:
    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[str] = []
        """ "METHOD path" of all that came."""
        self.commits: list[dict] = []
        """Header and file names of each commit that was pushed."""
        self.tokens: set[str | None] = set()
        self.refuse: dict[str, tuple[int, str, str]] = {}
        """Pattern of "METHOD path" -> (status, X-Error-Code, message)."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, data = hub.handle(self.command, unquote(urlsplit(self.path).path), body)
                if status != 404:  # the client asks for other things of its own, without a token
                    hub.tokens.add(self.headers.get("Authorization"))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_HEAD = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        call = f"{method} {path}"
        self.requests.append(call)
        for pattern, (status, code, message) in self.refuse.items():
            if fnmatch.fnmatch(call, pattern):
                return status, {"X-Error-Code": code, "X-Error-Message": message}, b"{}"
        for pattern, act in _ROUTES:
            if found := re.fullmatch(pattern, call):
                return act(self, body, **found.groupdict())
        return 404, {}, b"{}"


def _json(value: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _missing(code: str) -> tuple[int, dict[str, str], bytes]:
    return 404, {"X-Error-Code": code}, b"{}"


def _create(hub: FakeHub, body: bytes):
    asked = json.loads(body)
    repo_id = f"{asked['organization']}/{asked['name']}"
    if repo_id in hub.repos:
        return 409, {}, json.dumps({"url": f"{hub.url}/{repo_id}"}).encode()
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    hub.repos[repo_id] = Repo(private=private)
    hub.repos[repo_id].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
    return _json({"url": f"{hub.url}/{repo_id}"})


def _info(hub: FakeHub, body: bytes, repo: str, revision: str = "main"):
    if repo not in hub.repos:
        return _missing("RepoNotFound")
    sha = hub.repos[repo].find(revision)
    if sha is None:
        return _missing("RevisionNotFound")
    siblings = [{"rfilename": name} for name in hub.repos[repo].commits[sha]]
    return _json({"id": repo, "sha": sha, "private": hub.repos[repo].private, "siblings": siblings})


def _tree(hub: FakeHub, body: bytes, repo: str, revision: str):
    files = hub.repos[repo].commits[hub.repos[repo].find(revision)]
    rows = [{"type": "file", "path": n, "size": len(d), "oid": _oid(d)} for n, d in files.items()]
    return _json(rows)


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _resolve(hub: FakeHub, body: bytes, repo: str, revision: str, name: str):
    known = hub.repos[repo]
    if known.gated:
        return 403, {"X-Error-Code": "GatedRepo"}, b""
    sha = known.find(revision)
    data = known.commits[sha].get(name)
    if data is None:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}, b""
    return 200, {"X-Repo-Commit": sha, "ETag": f'"{_oid(data)}"'}, data


def _branch(hub: FakeHub, body: bytes, repo: str, branch: str):
    known = hub.repos[repo]
    if branch in known.branches:
        return 409, {}, b"{}"
    known.branches[branch] = known.branches["main"]
    return _json({})


def _preupload(hub: FakeHub, body: bytes, repo: str, revision: str):
    names = [entry["path"] for entry in json.loads(body)["files"]]
    return _json({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})


def _commit(hub: FakeHub, body: bytes, repo: str, revision: str):
    entries = [json.loads(line) for line in body.decode().splitlines()]
    known, told = hub.repos[repo], {"files": [], "deleted": [], "revision": revision}
    files = dict(known.files(revision))
    for entry in entries:
        value = entry["value"]
        if entry["key"] == "header":
            told["header"] = value
        elif entry["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
            told["files"].append(value["path"])
        elif entry["key"] == "deletedFile":
            del files[value["path"]]
            told["deleted"].append(value["path"])
    sha = known.commit(files, revision)
    hub.commits.append(told)
    return _json({"commitUrl": f"{hub.url}/{repo}/commit/{sha}", "commitOid": sha})


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_ROUTES = (
    (r"POST /api/repos/create", _create),
    (r"POST /api/validate-yaml", lambda hub, body: _json({"errors": [], "warnings": []})),
    (rf"GET /api/models/{_REPO}", _info),
    (rf"GET /api/models/{_REPO}/revision/(?P<revision>.+)", _info),
    (rf"GET /api/models/{_REPO}/tree/(?P<revision>.+)", _tree),
    (rf"POST /api/models/{_REPO}/branch/(?P<branch>.+)", _branch),
    (rf"POST /api/models/{_REPO}/preupload/(?P<revision>.+)", _preupload),
    (rf"POST /api/models/{_REPO}/commit/(?P<revision>.+)", _commit),
    (rf"(?:GET|HEAD) /{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _resolve),
)


@contextlib.contextmanager
def hub_client(cache: Path, url: str | None = None):
    """Point the real client to a cache of its own and to a fake hub, or to none: offline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", url is None)
        patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
        patch.delenv("HF_TOKEN", raising=False)
        if url is not None:
            patch.setattr(constants, "ENDPOINT", url)
            template = url + "/{repo_id}/resolve/{revision}/{filename}"
            patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield patch


def cache_by_hand(
    cache: Path, repo_id: str, files: dict[str, bytes], branch: str = "main", sha: str = "1" * 40
) -> Path:
    """A repository in the cache in the hub's own layout; returns its snapshot folder."""
    folder = cache / f"models--{repo_id.replace('/', '--')}"
    for name, data in files.items():
        path = folder / "snapshots" / sha / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / branch).write_text(sha)
    return folder / "snapshots" / sha


def files_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their names relative to it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
