"""A chat server on loopback that does what a script tells it: per picture, a list of acts, the last one repeated.

It knows a picture by the sha256 of the bytes it was sent and answers with that number in the text, so that every
caption can be checked against its picture. It counts what it was asked and what it answered in full.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Act:
    """One way to answer. `sleep_s` comes first; `cut` closes the connection after so many bytes of the body; `drip_s`
    lies between any two bytes of it."""

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sleep_s: float = 0.0
    cut: int | None = None
    drip_s: float = 0.0


def error(status: int, code: str | None = None, kind: str | None = None, **headers: str) -> Act:
    """An error in the provider's JSON form; header names with `_` for `-`."""
    body = {"error": {"message": f"scripted {code or kind or status}", "type": kind, "param": None, "code": code}}
    return Act(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def answer(content: Any, finish_reason: str = "stop", refusal: str | None = None, **more: Any) -> bytes:
    """A chat completion."""
    return json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake-2026-01-01",
        "choices": [{"index": 0, "finish_reason": finish_reason,
                     "message": {"role": "assistant", "content": content, "refusal": refusal}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}, **more,
    }).encode()


def caption_of(sha256: str) -> str:
    return f"The picture has the number {sha256}."


OK = Act()
Script = Callable[[str, int], Act]
"""(sha256 of the bytes sent, how often these were asked before) -> what to do."""


def always(*acts: Act) -> Script:
    """The same acts for every picture, one after the other, then the last one for ever."""
    return lambda _, asked: acts[min(asked, len(acts) - 1)]


class FaultServer:
    """Runs in a thread; use as a context manager. `base_url` is where it listens."""

    def __init__(self, script: Script | None = None, latency_s: float = 0.0) -> None:
        self.script: Script = script or always(OK)
        self.latency_s = latency_s
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.times: list[float] = []
        self.bodies: defaultdict[str, list[bytes]] = defaultdict(list)
        self.keys: Counter[str | None] = Counter()
        self.script_by_key: dict[str, Script] = {}
        self.in_flight = self.most_in_flight = 0
        self.base_url = ""
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FaultServer:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/chat/completions", self._chat)
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

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._act(request)
        finally:
            self.in_flight -= 1

    async def _act(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.times.append(time.monotonic())
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.keys[key] += 1
        sha256 = sent_sha256(json.loads(raw))
        before = self.asked[sha256]
        self.asked[sha256] += 1
        self.bodies[sha256].append(raw)
        act = self.script_by_key.get(key, self.script)(sha256, before)
        await asyncio.sleep(act.sleep_s or self.latency_s)
        body = answer(caption_of(sha256)) if act.body is None else act.body
        if act.cut is not None:
            response = web.StreamResponse(status=act.status, headers={"Content-Length": str(len(body))})
            await response.prepare(request)
            await response.write(body[: act.cut])
            assert request.transport is not None
            request.transport.abort()
            return response
        if act.drip_s:
            return await self._drip(request, act, body)
        if act.status == 200:
            self.answered[sha256] += 1
        headers = {"x-request-id": f"req-{len(self.times)}", **act.headers}
        return web.Response(body=body, status=act.status, headers=headers)

    async def _drip(self, request: web.Request, act: Act, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(status=act.status, headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        for byte in body:
            await response.write(bytes([byte]))
            await asyncio.sleep(act.drip_s)
        return response


def sent_sha256(body: Mapping[str, Any]) -> str:
    """The hash of the picture inside a chat request."""
    parts: Sequence[Mapping[str, Any]] = body["messages"][0]["content"]
    url = parts[-1]["image_url"]["url"]
    return hashlib.sha256(base64.b64decode(url.partition("base64,")[2])).hexdigest()
