"""A provider with Files, Batches and chat on loopback, scripted per test. It answers with the number of each picture.

What it was made to do is a `Fate` per batch, and per call a fault that comes before or after the call has worked. It
counts which requests were ever put into batches, which were worked on (and so paid), and checks what a provider checks.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.servers.fault_server import Act, answer, caption_of, sent_sha256


@dataclass(frozen=True)
class Fate:
    """How one batch goes. `looks`: how often it is looked at before it is over; `worked`: how many of its requests are
    worked on by then (None: all)."""

    status: str = "completed"
    looks: int = 1
    worked: int | None = None
    holes: int = 0
    twice: int = 0
    strangers: int = 0
    rubbish: int = 0
    leave_out_rest: bool = False
    problems: tuple[tuple[str, str], ...] = ()
    counts: bool = True


@dataclass(frozen=True)
class Trouble:
    """A fault of one call. `after`: the call works first and only its answer goes wrong. `cut`: the connection breaks
    after so many bytes of the answer."""

    act: Act = field(default_factory=lambda: Act(500, b"<html>down</html>"))
    after: bool = False
    cut: int | None = None


@dataclass
class _File:
    id: str
    name: str
    data: bytes
    created_at: int


@dataclass
class _Batch:
    id: str
    lines: list[dict[str, Any]]
    fate: Fate
    metadata: dict[str, str]
    input_file_id: str
    created_at: int
    status: str = "validating"
    looked: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    num_completed: int = 0
    num_failed: int = 0


Judge = Callable[[str, int], tuple[int, Any]]
"""(sha256 of the picture, how often it was worked on before) -> status and body of the response of its line."""


def all_well(sha256: str, _: int) -> tuple[int, Any]:
    return 200, json.loads(answer(caption_of(sha256)))


class BatchServer:
    """Runs in a thread; use as a context manager. `base_url` is where it listens."""

    def __init__(self) -> None:
        self.fate: Callable[[int], Fate] = lambda number: Fate()
        self.judge: Judge = all_well
        self.trouble: Callable[[str, int], Trouble | None] = lambda call, number: None
        self.max_enqueued_requests: int | None = None
        self.latency_s = 0.0
        self.calls: Counter[str] = Counter()
        self.uploads: list[bytes] = []
        self.files: dict[str, _File] = {}
        self.batches: dict[str, _Batch] = {}
        self.worked: Counter[str] = Counter()
        self.waiting_twice: set[str] = set()
        self.most_enqueued = 0
        self.headers: list[Mapping[str, str]] = []
        self.base_url = ""
        self._num_files = 0
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> BatchServer:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    # --- what tests ask ---

    @property
    def submitted(self) -> Counter[str]:
        """How often each request was put into a batch that came to be."""
        return Counter(line["custom_id"] for batch in self.batches.values() for line in batch.lines)

    def of_intent(self) -> dict[str, list[_Batch]]:
        found: defaultdict[str, list[_Batch]] = defaultdict(list)
        for batch in self.batches.values():
            found[batch.metadata["sgv_intent"]].append(batch)
        return found

    # --- serving ---

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=1 << 40)
        app.add_routes([
            web.post("/v1/files", self._called("upload", self._upload)),
            web.get("/v1/files", self._called("list files", self._list_files)),
            web.get("/v1/files/{id}/content", self._called("download", self._download)),
            web.delete("/v1/files/{id}", self._called("delete", self._delete)),
            web.post("/v1/batches", self._called("create", self._create)),
            web.get("/v1/batches", self._called("list batches", self._list_batches)),
            web.get("/v1/batches/{id}", self._called("look", self._look)),
            web.post("/v1/batches/{id}/cancel", self._called("cancel", self._cancel)),
            web.post("/v1/chat/completions", self._called("chat", self._chat)),
        ])  # fmt: skip
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    def _called(self, name: str, work: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.calls[name] += 1
            self.headers.append(dict(request.headers))
            trouble = self.trouble(name, self.calls[name])
            if trouble is not None and not trouble.after:
                await request.read()
                return await self._spoil(request, trouble, trouble.act.body or b"")
            response: web.Response = await work(request)
            # Work is done before the answer leaves: a client killed meanwhile never hears of it.
            await asyncio.sleep(self.latency_s)
            assert isinstance(response.body, bytes)
            return response if trouble is None else await self._spoil(request, trouble, response.body)

        return handle

    async def _spoil(self, request: web.Request, trouble: Trouble, body: bytes) -> web.StreamResponse:
        await asyncio.sleep(trouble.act.sleep_s)
        if trouble.cut is None:
            return web.Response(body=trouble.act.body, status=trouble.act.status, headers=dict(trouble.act.headers))
        response = web.StreamResponse(headers={"Content-Length": str(len(body) + 1)})
        await response.prepare(request)
        await response.write(body[: trouble.cut])
        assert request.transport is not None
        request.transport.abort()
        return response

    # --- files ---

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        part = form["file"]
        assert isinstance(part, web.FileField)
        data = part.file.read()
        self.uploads.append(data)
        file = self._keep(part.filename, data)
        return web.json_response(_file_json(file))

    def _keep(self, name: str, data: bytes) -> _File:
        self._num_files += 1
        file = _File(f"file-{self._num_files}", name, data, int(time.time()))
        self.files[file.id] = file
        return file

    async def _list_files(self, request: web.Request) -> web.Response:
        return _page(request, [_file_json(file) for file in reversed(self.files.values())])

    async def _download(self, request: web.Request) -> web.Response:
        file = self.files.get(request.match_info["id"])
        return _missing() if file is None else web.Response(body=file.data)

    async def _delete(self, request: web.Request) -> web.Response:
        file = self.files.pop(request.match_info["id"], None)
        return _missing() if file is None else web.json_response({"id": file.id, "deleted": True})

    # --- batches ---

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["endpoint"] == "/v1/chat/completions"
        assert asked["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].data.splitlines()]
        fate = self.fate(len(self.batches))
        ids = [line["custom_id"] for line in lines]
        assert all(0 < len(name) <= 64 for name in ids), "a custom_id has 64 characters at most"
        assert len(set(ids)) == len(ids), "a custom_id must be there once"
        self.waiting_twice |= self._waiting() & set(ids)
        enqueued = len(self._waiting()) + len(ids)
        if self.max_enqueued_requests is not None and enqueued > self.max_enqueued_requests:
            fate = Fate("failed", 0, problems=(("token_limit_exceeded", "Enqueued token limit reached."),))
        else:
            self.most_enqueued = max(self.most_enqueued, enqueued)
        batch = _Batch(
            f"batch_{len(self.batches) + 1}", lines, fate, asked["metadata"], asked["input_file_id"], int(time.time())
        )
        self.batches[batch.id] = batch
        return web.json_response(_batch_json(batch))

    def _waiting(self) -> set[str]:
        """What lies in batches that are not over."""
        return {line["custom_id"] for batch in self.batches.values() if not _is_over(batch) for line in batch.lines}

    async def _list_batches(self, request: web.Request) -> web.Response:
        return _page(request, [_batch_json(batch) for batch in reversed(self.batches.values())])

    async def _look(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return _missing()
        if not _is_over(batch):
            batch.looked += 1
            batch.status = "in_progress"
            if batch.looked >= batch.fate.looks:
                self._end(batch, batch.fate)
        return web.json_response(_batch_json(batch))

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch.fate = Fate("cancelled", batch.looked + 1, worked=batch.fate.worked or 0)
        batch.status = "cancelling"
        return web.json_response(_batch_json(batch))

    async def _chat(self, request: web.Request) -> web.Response:
        sha256 = sent_sha256(await request.json())
        status, body = self.judge(sha256, self.worked[sha256])
        self.worked[sha256] += 1
        return web.Response(body=json.dumps(body).encode(), status=status)

    def _end(self, batch: _Batch, fate: Fate) -> None:
        batch.status = fate.status
        if fate.status == "failed":
            return
        lines = list(batch.lines)
        random.Random(batch.id).shuffle(lines)
        num_worked = len(lines) if fate.worked is None else fate.worked
        good, bad = [], []
        for place, line in enumerate(lines):
            if place >= num_worked:
                if not fate.leave_out_rest:
                    bad.append(_undone(line["custom_id"], fate.status))
                continue
            sha256 = sent_sha256(line["body"])
            status, body = self.judge(sha256, self.worked[sha256])
            self.worked[sha256] += 1
            (good if status == 200 else bad).append(_done(line["custom_id"], status, body))
            batch.num_completed += status == 200
            batch.num_failed += status != 200
        good = good[fate.holes :]
        good += good[: fate.twice]
        good += [_done(f"stranger-{number}", 200, {}) for number in range(fate.strangers)]
        written = [json.dumps(line).encode() for line in good] + [b'{"custom_id": "cut'] * fate.rubbish
        if written:
            batch.output_file_id = self._keep("output.jsonl", b"\n".join(written) + b"\n").id
        if bad:
            batch.error_file_id = self._keep("errors.jsonl", b"\n".join(json.dumps(line).encode() for line in bad)).id


def _is_over(batch: _Batch) -> bool:
    return batch.status in ("completed", "failed", "expired", "cancelled")


def _done(custom_id: str, status: int, body: Any) -> dict[str, Any]:
    response = {"status_code": status, "request_id": f"req-{custom_id[:8]}", "body": body}
    return {"id": f"batch_req_{custom_id[:8]}", "custom_id": custom_id, "response": response, "error": None}


def _undone(custom_id: str, status: str) -> dict[str, Any]:
    error = {"code": f"batch_{status}", "message": f"The batch was {status} before this request was executed."}
    return {"id": "batch_req_x", "custom_id": custom_id, "response": None, "error": error}


def _file_json(file: _File) -> dict[str, Any]:
    return {"id": file.id, "object": "file", "bytes": len(file.data), "filename": file.name, "purpose": "batch",
            "created_at": file.created_at, "status": "processed"}  # fmt: skip


def _batch_json(batch: _Batch) -> dict[str, Any]:
    counts = {"total": len(batch.lines), "completed": batch.num_completed, "failed": batch.num_failed}
    problems = [{"code": code, "message": message, "line": 1, "param": None} for code, message in batch.fate.problems]
    return {
        "id": batch.id, "object": "batch", "endpoint": "/v1/chat/completions", "status": batch.status,
        "input_file_id": batch.input_file_id, "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id, "metadata": batch.metadata, "created_at": batch.created_at,
        "completion_window": "24h", "request_counts": counts if batch.fate.counts else None,
        "errors": {"object": "list", "data": problems} if batch.status == "failed" else None,
    }  # fmt: skip


def _page(request: web.Request, items: list[dict[str, Any]]) -> web.Response:
    after, limit = request.query.get("after"), min(3, int(request.query.get("limit", 3)))
    start = next((place + 1 for place, item in enumerate(items) if item["id"] == after), 0)
    part = items[start : start + limit]
    return web.json_response({"object": "list", "data": part, "has_more": len(items) > start + limit})


def _missing() -> web.Response:
    return web.json_response({"error": {"message": "no such thing", "type": "invalid_request_error", "code": None}},
                             status=404)  # fmt: skip
