"""A stand-in for the Hugging Face Hub over real sockets, good enough for `huggingface_hub` and `datasets`.

Datasets only: repositories with commits, branches, pull requests and tags; LFS and, with `xet`, the Xet store in a
local folder; downloads with redirects to another host name. `fault` decides per request what goes wrong. Everything
that was ever committed can be looked at: `repo.commits`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from aiohttp import web

TOKEN = "hf_standintoken"
_DATE = "2026-01-01T00:00:00.000Z"
LFS_SUFFIXES = (".tar", ".parquet", ".jpg", ".png", ".bin", ".zip")
FIRST_COMMIT = {".gitattributes": b"*.tar filter=lfs diff=lfs merge=lfs -text\n"}


@dataclass(frozen=True)
class Call:
    """A request as `fault` sees it; `number` counts from 1 over all requests."""

    number: int
    method: str
    path: str


@dataclass(frozen=True)
class Fault:
    """`status` is answered in place of the request; `drop` closes the connection: before, during or after the work."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    drop: str = ""


@dataclass(frozen=True)
class Entry:
    """A file in a commit. `sha256` only for LFS files."""

    content: bytes
    sha256: str | None

    @property
    def oid(self) -> str:
        data = _pointer(self.sha256, len(self.content)) if self.sha256 else self.content
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict[str, Entry]


@dataclass
class PullRequest:
    num: int
    title: str
    status: str
    is_pull: bool
    base: str


@dataclass
class Repo:
    repo_id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[int, PullRequest] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit | None:
        name = revision.removeprefix("refs/heads/")
        oid = self.refs.get(name) or self.tags.get(name) or name
        return self.commits.get(oid)

    def commit(self, ref: str, title: str, files: dict[str, Entry]) -> Commit:
        parent = self.refs.get(ref)
        listed = sorted((path, entry.oid) for path, entry in files.items())
        oid = hashlib.sha1(repr((parent, title, listed, len(self.commits))).encode()).hexdigest()
        self.commits[oid] = made = Commit(oid, parent, title, files)
        self.refs[ref] = oid
        return made

    def history(self, ref: str = "main") -> list[Commit]:
        """From the newest to the first."""
        found, oid = [], self.refs.get(ref)
        while oid is not None:
            found.append(self.commits[oid])
            oid = self.commits[oid].parent
        return found


class _Answer(Exception):
    """Ends a handler with an error as the Hub words it."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status, code)
        self.status, self.code, self.message = status, code, message or code


Handler = Callable[..., Any]


class StandInHub:
    """A context manager. `fault` may be set at any time; `page` is the size of a page of the tree."""

    def __init__(self, xet: Path | None = None, page: int = 1000, multipart_bytes: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.calls: list[Call] = []
        self.num_bytes_in = 0
        self.fault: Callable[[Call], Fault | None] = lambda _: None
        self._xet, self._page, self._multipart = xet, page, multipart_bytes
        self._parts: dict[tuple[str, int], bytes] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, home: Path) -> dict[str, str]:
        """What a client needs to talk to this Hub and to no other."""
        values = {
            "HF_ENDPOINT": self.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0",
            "HF_DATASETS_CACHE": str(home / "datasets"),
        }  # fmt: skip
        return values if self._xet else {**values, "HF_HUB_DISABLE_XET": "1"}

    def __enter__(self) -> StandInHub:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    # --- every request -------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = unquote(request.rel_url.raw_path)
        call = Call(len(self.calls) + 1, request.method, path)
        self.calls.append(call)
        fault = self.fault(call)
        if fault is not None and fault.drop == "before":
            return self._dropped(request)
        if fault is not None and fault.drop == "during":
            self.num_bytes_in += len(await request.content.readany())
            return self._dropped(request)
        body = bytearray()
        try:
            async for chunk in request.content.iter_any():
                self.num_bytes_in += len(chunk)
                body += chunk
        except ConnectionError:
            return self._dropped(request)  # the client was killed
        if fault is not None and fault.status:
            return web.json_response({"error": "fault"}, status=fault.status, headers=fault.headers)
        answer = self._work(request, path, bytes(body))
        if fault is not None and fault.drop == "after":
            return self._dropped(request)
        return answer

    def _dropped(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _work(self, request: web.Request, path: str, body: bytes) -> web.StreamResponse:
        for method, pattern, handler, needs_token in self._routes():
            matched = re.fullmatch(pattern, path)
            if matched is None or request.method not in method.split("|"):
                continue
            given = request.headers.get("Authorization", "")
            if needs_token and given != f"Bearer {TOKEN}":
                return _error(_Answer(401, "RepoNotFound", "Invalid username or password."))
            if not needs_token and given and method == "PUT":
                return _error(_Answer(400, "BadRequest", "the store takes no token"))
            try:
                return handler(request, body, *matched.groups())
            except _Answer as exc:
                return _error(exc)
        return _error(_Answer(404, "", f"no such route: {request.method} {path}"))

    def _routes(self) -> list[tuple[str, str, Handler, bool]]:
        repo = r"/api/datasets/([^/]+/[^/]+)"
        return [
            ("GET", r"/api/whoami-v2", self._whoami, True),
            ("POST", r"/api/repos/create", self._create, True),
            ("DELETE", r"/api/repos/delete", self._delete_repo, True),
            ("POST", r"/api/validate-yaml", self._validate, True),
            ("GET", repo, self._info, True),
            ("GET", repo + r"/revision/(.+)", self._info, True),
            ("POST", repo + r"/preupload/(.+)", self._preupload, True),
            ("POST", repo + r"/commit/(.+)", self._commit, True),
            ("GET", repo + r"/tree/(refs/pr/\d+|[^/]+)(?:/(.*))?", self._tree, True),
            ("POST", repo + r"/paths-info/(.+)", self._paths_info, True),
            ("GET", repo + r"/refs", self._refs, True),
            ("GET", repo + r"/commits/(.+)", self._commits, True),
            ("POST|DELETE", repo + r"/branch/(.+)", self._branch, True),
            ("POST", repo + r"/tag/(.+)", self._tag, True),
            ("GET|POST", repo + r"/discussions", self._discussions, True),
            ("GET", repo + r"/discussions/(\d+)", self._discussion, True),
            ("POST", repo + r"/discussions/(\d+)/(status|merge)", self._change, True),
            ("GET", repo + r"/xet-(?:read|write)-token/(.+)", self._xet_token, True),
            ("POST", r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._lfs_batch, True),
            ("PUT", r"/store/([0-9a-f]{64})(?:/(\d+))?", self._put, False),
            ("POST", r"/store/([0-9a-f]{64})/complete", self._complete, False),
            ("POST", r"/store/([0-9a-f]{64})/verify", self._verify, True),
            ("GET|HEAD", r"/datasets/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", self._resolve, True),
            ("GET|HEAD", r"/cdn/([0-9a-f]{64})", self._cdn, False),
        ]

    # --- repositories --------------------------------------------------------------------------------------------

    def _whoami(self, request: web.Request, body: bytes) -> web.Response:
        return web.json_response({"name": "me", "type": "user", "orgs": [], "auth": {"type": "access_token"}})

    def _create(self, request: web.Request, body: bytes) -> web.Response:
        asked = json.loads(body)
        repo_id = f"{asked.get('organization') or 'me'}/{asked['name']}"
        url = f"{self.endpoint}/datasets/{repo_id}"
        if repo_id in self.repos:
            return web.json_response({"error": "You already created this dataset repo", "url": url}, status=409)
        repo = self.repos[repo_id] = Repo(repo_id, asked.get("visibility") == "private")
        repo.commit("main", "initial commit", {name: Entry(data, None) for name, data in FIRST_COMMIT.items()})
        return web.json_response({"url": url, "name": repo_id, "id": repo_id})

    def _delete_repo(self, request: web.Request, body: bytes) -> web.Response:
        asked = json.loads(body)
        del self.repos[f"{asked.get('organization') or 'me'}/{asked['name']}"]
        return web.json_response({})

    def _validate(self, request: web.Request, body: bytes) -> web.Response:
        return web.json_response({"errors": [], "warnings": []})

    def _repo(self, repo_id: str) -> Repo:
        if repo_id not in self.repos:
            raise _Answer(404, "RepoNotFound", "Repository not found")
        return self.repos[repo_id]

    def _at(self, repo_id: str, revision: str) -> tuple[Repo, Commit]:
        repo = self._repo(repo_id)
        commit = repo.resolve(revision)
        if commit is None:
            raise _Answer(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo, commit

    def _info(self, request: web.Request, body: bytes, repo_id: str, revision: str = "main") -> web.Response:
        repo, commit = self._at(repo_id, revision)
        return web.json_response({
            "_id": "0", "id": repo.repo_id, "sha": commit.oid, "private": repo.private, "tags": [], "downloads": 0,
            "likes": 0, "gated": False, "disabled": False, "siblings": [{"rfilename": path} for path in commit.files],
            "createdAt": _DATE, "lastModified": _DATE,
        })  # fmt: skip

    def _refs(self, request: web.Request, body: bytes, repo_id: str) -> web.Response:
        repo = self._repo(repo_id)
        branches = {name: oid for name, oid in repo.refs.items() if not name.startswith("refs/pr/")}
        pulls = {name: oid for name, oid in repo.refs.items() if name.startswith("refs/pr/")}
        return web.json_response({
            "branches": [_ref(name, f"refs/heads/{name}", oid) for name, oid in branches.items()],
            "tags": [_ref(name, f"refs/tags/{name}", oid) for name, oid in repo.tags.items()],
            "converts": [],
            "pullRequests": [_ref(name.rpartition("/")[2], name, oid) for name, oid in pulls.items()],
        })  # fmt: skip

    def _commits(self, request: web.Request, body: bytes, repo_id: str, revision: str) -> web.Response:
        repo, commit = self._at(repo_id, revision)
        found, oid = [], commit.oid if commit else None
        while oid is not None:
            each = repo.commits[oid]
            found.append({"id": oid, "title": each.title, "message": "", "authors": [], "date": _DATE})
            oid = each.parent
        return web.json_response(found)

    def _branch(self, request: web.Request, body: bytes, repo_id: str, branch: str) -> web.Response:
        repo = self._repo(repo_id)
        if request.method == "DELETE":
            del repo.refs[branch]
        elif branch in repo.refs:
            raise _Answer(409, "", "Reference already exists")
        else:
            start = json.loads(body or b"{}").get("startingPoint", "main")
            repo.refs[branch] = self._at(repo_id, start)[1].oid
        return web.json_response({})

    def _tag(self, request: web.Request, body: bytes, repo_id: str, revision: str) -> web.Response:
        repo, commit = self._at(repo_id, revision)
        name = json.loads(body)["tag"]
        if name in repo.tags:
            raise _Answer(409, "", "Tag reference exists already")
        repo.tags[name] = commit.oid
        return web.json_response({})

    # --- pull requests -------------------------------------------------------------------------------------------

    def _discussions(self, request: web.Request, body: bytes, repo_id: str) -> web.Response:
        repo = self._repo(repo_id)
        if request.method == "POST":
            asked = json.loads(body)
            return web.json_response({"num": self._open(repo, asked["title"], bool(asked["pullRequest"]), "draft").num})
        status = {"open": ("open", "draft"), "closed": ("closed", "merged")}.get(request.query.get("status", ""))
        found = [each for each in repo.pulls.values() if status is None or each.status in status]
        page = int(request.query.get("p", "0"))
        shown = [self._shown(repo, each) for each in found[page * 10 : page * 10 + 10]]
        return web.json_response({"discussions": shown, "count": len(found), "start": page * 10})

    def _open(self, repo: Repo, title: str, is_pull: bool, status: str) -> PullRequest:
        num = len(repo.pulls) + 1
        pull = repo.pulls[num] = PullRequest(num, title, status if is_pull else "open", is_pull, repo.refs["main"])
        if is_pull:
            repo.refs[f"refs/pr/{num}"] = repo.refs["main"]
        return pull

    def _shown(self, repo: Repo, pull: PullRequest) -> dict[str, Any]:
        return {
            "num": pull.num, "title": pull.title, "status": pull.status, "isPullRequest": pull.is_pull,
            "author": {"name": "me"}, "createdAt": _DATE,
            "repo": {"name": repo.repo_id, "type": "dataset"},
        }  # fmt: skip

    def _discussion(self, request: web.Request, body: bytes, repo_id: str, num: str) -> web.Response:
        repo, pull = self._pull(repo_id, num)
        return web.json_response({
            **self._shown(repo, pull), "events": [], "filesWithConflicts": [], "diff": "",
            "changes": {"base": "refs/heads/main"},
        })  # fmt: skip

    def _pull(self, repo_id: str, num: str) -> tuple[Repo, PullRequest]:
        repo = self._repo(repo_id)
        if int(num) not in repo.pulls:
            raise _Answer(404, "", "Discussion not found")
        return repo, repo.pulls[int(num)]

    def _change(self, request: web.Request, body: bytes, repo_id: str, num: str, what: str) -> web.Response:
        repo, pull = self._pull(repo_id, num)
        if what == "status":
            pull.status = json.loads(body)["status"]
            event = {
                "id": "0", "type": "status-change", "createdAt": _DATE, "author": {"name": "me"},
                "data": {"status": pull.status},
            }  # fmt: skip
            return web.json_response({"newStatus": event})
        if pull.status != "open":
            raise _Answer(400, "", f"This pull request is {pull.status}")
        self._merge(repo, pull)
        return web.json_response({})

    def _merge(self, repo: Repo, pull: PullRequest) -> None:
        """One commit on main with what the request changed since it was opened."""
        base, theirs = repo.commits[pull.base].files, repo.commits[repo.refs[f"refs/pr/{pull.num}"]].files
        files = dict(repo.commits[repo.refs["main"]].files)
        for path in base.keys() | theirs.keys():
            if base.get(path) == theirs.get(path):
                continue
            if files.get(path) != base.get(path):
                raise _Answer(409, "", f"conflict in {path}")
            if path in theirs:
                files[path] = theirs[path]
            else:
                del files[path]
        repo.commit("main", pull.title, files)
        pull.status = "merged"

    # --- commits and files ---------------------------------------------------------------------------------------

    def _preupload(self, request: web.Request, body: bytes, repo_id: str, revision: str) -> web.Response:
        _, commit = self._at(repo_id, revision)
        files = []
        for each in json.loads(body)["files"]:
            lfs = each["path"].endswith(LFS_SUFFIXES) or each["size"] > 10_000_000
            there = commit.files.get(each["path"])
            oid = None if there is None else there.sha256 or there.oid
            mode = "lfs" if lfs else "regular"
            files.append({"path": each["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return web.json_response({"files": files})

    def _commit(self, request: web.Request, body: bytes, repo_id: str, revision: str) -> web.Response:
        repo, parent = self._at(repo_id, revision)
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, parent.oid):
            raise _Answer(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for line in lines[1:]:
            self._apply(files, line["key"], line["value"])
        ref, extra = revision.removeprefix("refs/heads/"), {}
        if request.query.get("create_pr"):
            pull = self._open(repo, header["summary"], True, "open")
            ref = f"refs/pr/{pull.num}"
            extra = {"pullRequestUrl": f"{self.endpoint}/datasets/{repo_id}/discussions/{pull.num}"}
        made = repo.commit(ref, header["summary"], files)
        url = f"{self.endpoint}/datasets/{repo_id}/commit/{made.oid}"
        return web.json_response({"success": True, "commitOid": made.oid, "commitUrl": url, **extra})

    def _apply(self, files: dict[str, Entry], key: str, value: dict[str, Any]) -> None:
        path = value["path"]
        if key == "file":
            files[path] = Entry(base64.b64decode(value["content"]), None)
        elif key == "lfsFile":
            content = self._content(value["oid"], value["size"])
            if content is None or len(content) != value["size"]:
                raise _Answer(400, "", f"LFS pointer of {path} points to a file that does not exist")
            files[path] = Entry(content, value["oid"])
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise _Answer(404, "EntryNotFound", "A file with this name doesn't exist")
        elif key == "deletedFolder":
            for name in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
                del files[name]
        else:
            raise _Answer(400, "", f"unknown operation {key}")

    def _content(self, oid: str, size: int) -> bytes | None:
        if oid not in self.stored and self._xet is not None and oid in _xet_hashes(self._xet):
            return _Sized(size)
        return self.stored.get(oid)

    def _tree(self, request: web.Request, body: bytes, repo_id: str, revision: str, folder: str | None) -> web.Response:
        _, commit = self._at(repo_id, revision)
        prefix = f"{folder}/" if folder else ""
        below = {path: entry for path, entry in commit.files.items() if path.startswith(prefix)}
        if folder and not below:
            raise _Answer(404, "EntryNotFound", f"{folder} does not exist")
        recursive = request.query.get("recursive", "").lower() in ("1", "true")
        listed = _listing(below, prefix, recursive)
        start = int(request.query.get("cursor", "0"))
        headers = {}
        if start + self._page < len(listed):
            next_url = request.url.update_query(cursor=str(start + self._page))
            headers["Link"] = f'<{self.endpoint}{next_url.raw_path_qs}>; rel="next"'
        return web.json_response(listed[start : start + self._page], headers=headers)

    def _paths_info(self, request: web.Request, body: bytes, repo_id: str, revision: str) -> web.Response:
        _, commit = self._at(repo_id, revision)
        try:
            paths = json.loads(body)["paths"]
        except ValueError:
            paths = parse_qs(body.decode())["paths"]
        paths = [paths] if isinstance(paths, str) else paths
        found = []
        for path in paths:
            if path in commit.files:
                found.append(_described(path, commit.files[path]))
            elif any(name.startswith(path + "/") for name in commit.files):
                found.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        return web.json_response(found)

    # --- the large file store ------------------------------------------------------------------------------------

    def _lfs_batch(self, request: web.Request, body: bytes, repo_id: str) -> web.Response:
        self._repo(repo_id)
        objects = [self._actions(each) for each in json.loads(body)["objects"]]
        return web.json_response({"transfer": "basic", "objects": objects})

    def _actions(self, wanted: dict[str, Any]) -> dict[str, Any]:
        oid, size = wanted["oid"], wanted["size"]
        if oid in self.stored:
            return {"oid": oid, "size": size}
        href = f"{self.endpoint}/store/{oid}"
        upload: dict[str, Any] = {"href": href}
        if self._multipart and size > self._multipart:
            parts = range(1, -(-size // self._multipart) + 1)
            header = {"chunk_size": str(self._multipart), **{str(part): f"{href}/{part}" for part in parts}}
            upload = {"href": f"{href}/complete", "header": header}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": f"{href}/verify"}}}

    def _put(self, request: web.Request, body: bytes, oid: str, part: str | None) -> web.Response:
        if part is not None:
            self._parts[oid, int(part)] = body
            return web.Response(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Answer(400, "", "these are other bytes")
        self.stored[oid] = body
        return web.Response()

    def _complete(self, request: web.Request, body: bytes, oid: str) -> web.Response:
        numbers = [each["partNumber"] for each in json.loads(body)["parts"]]
        return self._put(request, b"".join(self._parts.pop((oid, number)) for number in numbers), oid, None)

    def _verify(self, request: web.Request, body: bytes, oid: str) -> web.Response:
        if oid not in self.stored:
            raise _Answer(404, "", "not stored")
        return web.json_response({})

    def _xet_token(self, request: web.Request, body: bytes, repo_id: str, revision: str) -> web.Response:
        if self._xet is None:
            raise _Answer(404, "", "no Xet here")
        headers = {
            "X-Xet-Cas-Url": f"local://{self._xet}", "X-Xet-Access-Token": "token",
            "X-Xet-Token-Expiration": "4102444800",
        }  # fmt: skip
        return web.json_response({"casUrl": headers["X-Xet-Cas-Url"], "accessToken": "token", "exp": 4102444800},
                                 headers=headers)  # fmt: skip

    # --- downloads -----------------------------------------------------------------------------------------------

    def _resolve(self, request: web.Request, body: bytes, repo_id: str, revision: str, path: str) -> web.Response:
        _, commit = self._at(repo_id, revision)
        entry = commit.files.get(path)
        if entry is None:
            raise _Answer(404, "EntryNotFound", f"{path} does not exist")
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if entry.sha256 is None:
            return _ranged(request, entry.content, {**headers, "ETag": f'"{entry.oid}"'})
        headers |= {
            "X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(len(entry.content)),
            "Location": f"http://localhost:{self.port}/cdn/{entry.sha256}",
        }  # fmt: skip
        if self._xet is not None and (xet_hash := _xet_hashes(self._xet).get(entry.sha256)):
            token = f"{self.endpoint}/api/datasets/{repo_id}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": xet_hash, "Link": f'<{token}>; rel="xet-auth"'}
        return web.Response(status=302, headers=headers)

    def _cdn(self, request: web.Request, body: bytes, oid: str) -> web.Response:
        return _ranged(request, self.stored[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})


class _Sized(bytes):
    """Stands for content that lies in the Xet store alone; only its size is known here."""

    def __new__(cls, size: int) -> _Sized:
        made = super().__new__(cls)
        made.size = size
        return made

    size: int

    def __len__(self) -> int:
        return self.size


def _error(exc: _Answer) -> web.Response:
    headers = {"X-Error-Code": exc.code, "X-Error-Message": exc.message} if exc.code else {}
    return web.json_response({"error": exc.message}, status=exc.status, headers=headers)


def _ref(name: str, ref: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": oid}


def _pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _described(path: str, entry: Entry) -> dict[str, Any]:
    size = len(entry.content)
    described: dict[str, Any] = {"type": "file", "path": path, "oid": entry.oid, "size": size}
    if entry.sha256 is not None:
        described["lfs"] = {"oid": entry.sha256, "size": size, "pointerSize": len(_pointer(entry.sha256, size))}
    return described


def _listing(files: dict[str, Entry], prefix: str, recursive: bool) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path, entry in sorted(files.items()):
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            folder = prefix + "/".join(parts[:depth])
            found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
        if recursive or len(parts) == 1:
            found[path] = _described(path, entry)
    return list(found.values())


def _ranged(request: web.Request, content: bytes, headers: dict[str, str]) -> web.Response:
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if asked is None:
        return web.Response(body=content, headers=headers)
    first = int(asked[1])
    last = min(int(asked[2]) if asked[2] else len(content) - 1, len(content) - 1)
    if first >= len(content):
        return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{len(content)}"})
    headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
    return web.Response(status=206, body=content[first : last + 1], headers=headers)


def _xet_hashes(folder: Path) -> dict[str, str]:
    """sha256 -> Xet hash of every file that hf_xet has put into its local store."""
    found = {}
    for path in folder.glob("xet/xorbs/shards/*.mdb"):
        data, at = path.read_bytes(), 48
        while data[at : at + 32] != b"\xff" * 32:
            flags, num_entries = struct.unpack_from("<II", data, at + 32)
            xet_hash = "".join(f"{each:016x}" for each in struct.unpack_from("<4Q", data, at))
            at += 48 * (1 + num_entries * (2 if flags >> 31 else 1))
            if flags >> 30 & 1:
                sha256 = "".join(f"{each:016x}" for each in struct.unpack_from("<4Q", data, at))
                found[sha256] = xet_hash
                found[data[at : at + 32].hex()] = xet_hash
                at += 48
    return found
