"""The engine `openai`: a captioner behind any compatible server, asked like the teacher is: same client, limits, cache.

The picture goes as a PNG of the very pixels that a local engine is given, and in the order in which a captioner is
trained: picture first, then the prompt. So a server that runs the same model with the same chat template gives the same
captions. Answers lie in `replies.sqlite` beside the units: what was answered is never asked again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from sgv_data.api.asking import Again, Asker
from sgv_data.api.backlog import Bell
from sgv_data.api.budget import Budget
from sgv_data.api.cache import ReplyCache, StoredReply
from sgv_data.api.client import ChatClient, find_endpoint
from sgv_data.api.controller import Controller
from sgv_data.api.fleet import Fleet, Member
from sgv_data.api.health import Health
from sgv_data.api.keys import SentImage, request_key
from sgv_data.api.ramp import ramp_rule
from sgv_data.api.reply import ParsedReply
from sgv_data.api.text_tokens import text_tokens
from sgv_data.api.wire import Request
from sgv_data.captioner.picture import Pixels
from sgv_data.captioner.setting import Setting
from sgv_data.expand.asynchronous import LoopThread
from sgv_data.expand.engine import Answer, Engine, Finish, Load, Picture
from sgv_data.expand.setup import Work
from sgv_data.images.encode import encode
from sgv_data.manifest import ExpandServer, Retry
from sgv_data.records import FailureClass, Outcome
from sgv_data.run_folder import canonical_json, utc_now

_IMAGE_MARK = "@image@"
_MOST_PROMPT_TOKENS = 8_192
_LIKELY_IMAGE_TOKENS = 1_000


@contextmanager
def opened_server(work: Work) -> Iterator[Engine]:
    """The engine for the manifest's `expand.server`.

    Raises:
        ProviderError: no address is known.
    """
    server = work.manifest.expand.server
    assert server is not None, "the manifest is not valid without it"
    with LoopThread() as loop, ReplyCache(work.folder / "replies.sqlite", run="expand") as cache:
        client = ChatClient(find_endpoint(server.base_url, server.api_key_env), server.timeout_s)
        try:
            yield ServerEngine(loop, client, cache, server, work.prompt.text)
        finally:
            loop.call(client.openai.close())


class ServerEngine:
    """Asks a server about pictures, as many at once as its limits let it."""

    def __init__(
        self, loop: LoopThread, client: ChatClient, cache: ReplyCache, server: ExpandServer, prompt: str
    ) -> None:
        policy = Retry()
        controller = Controller(server.limits, time.monotonic, random.Random(), ramp_rule(client.base_url))
        health = Health(client.base_url, policy.attempts, policy.max_wait_s)
        member = Member("server", client, controller, health, server.limits)
        # Counts failures of this attempt only: the next one asks about those pictures again.
        session = f"expand {utc_now()}"
        self._asker = Asker(
            Fleet([member], Bell(), _quiet), cache, Budget(None), policy, _no_price, session, _quiet, random.Random()
        )
        self._loop, self._cache, self._server, self._prompt = loop, cache, server, prompt
        self._turn = asyncio.Lock()
        self.load = Load()

    def describe(self, pictures: Iterator[Picture | None]) -> Generator[Answer]:
        """One answer per picture, as they come."""
        yield from self._loop.answers(pictures, self._ask, self._server.limits.in_flight, self.load)
        self._loop.call(self._asker.finish())

    async def _ask(self, picture: Picture) -> Answer:
        request = await asyncio.to_thread(self._request, picture)
        failure, detail = None, ""
        found = await asyncio.to_thread(self._cache.get, request.key)
        tries = 0
        while found is None and failure is None:
            async with self._turn:
                leave = await self._asker.leave(request)
            result = await self._asker.ask(request, leave, tries + 1)
            if isinstance(result, Again):
                tries += result.counts
                await asyncio.sleep(result.pause_s)
                continue
            found = await asyncio.to_thread(self._cache.get, request.key)
            if found is None:
                failure, detail = result.failure or FailureClass.BAD_REPLY, result.text
        if found is None:
            return _failed(picture, request, failure or FailureClass.BAD_REPLY, detail)
        return _answer(picture, request, *found)

    def _request(self, picture: Picture) -> Request:
        data = _png(picture.pixels)
        height_px, width_px = picture.pixels.shape[:2]
        image = SentImage(hashlib.sha256(data).hexdigest(), "image/png", width_px, height_px, len(data))
        body = canonical_json(_body(self._server.model, self._prompt, picture.setting, picture.seed)).encode()
        head, _, tail = body.rpartition(canonical_json(_IMAGE_MARK).encode())
        url = b'"data:image/png;base64,' + base64.b64encode(data) + b'"'
        most_tokens = picture.setting.max_new_tokens
        return Request(
            request_key(head, tail, image), head + url + tail, self._server.model,
            _LIKELY_IMAGE_TOKENS + text_tokens(self._prompt) + most_tokens, _MOST_PROMPT_TOKENS, most_tokens,
        )  # fmt: skip


def _png(pixels: Pixels) -> bytes:
    return encode(Image.fromarray(pixels), "png")


def _body(model: str, prompt: str, setting: Setting, seed: int) -> dict[str, Any]:
    """What is left out is a server's default and changes nothing; `max_tokens` is the name that all servers know."""
    content = [{"type": "image_url", "image_url": {"url": _IMAGE_MARK}}, {"type": "text", "text": prompt}]
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": setting.max_new_tokens,
        "temperature": setting.temperature,
    }
    if setting.samples:
        body |= {"top_p": setting.top_p, "seed": seed}
    if setting.repetition_penalty != 1.0:
        body["repetition_penalty"] = setting.repetition_penalty
    return body


def _answer(picture: Picture, request: Request, reply: StoredReply, parsed: ParsedReply) -> Answer:
    if parsed.outcome is Outcome.FAILED:
        return _failed(picture, request, FailureClass.BAD_REPLY, parsed.problem or "the answer has no text")
    finish = Finish.LENGTH if parsed.outcome is Outcome.TRUNCATED else Finish.STOP
    if parsed.finish_reason == Finish.REPETITION:
        finish = Finish.REPETITION
    return Answer(
        picture.place, parsed.text, finish, parsed.prompt_tokens, parsed.completion_tokens, reply.latency_s,
        request_id=reply.request_id, request_key=request.key,
    )  # fmt: skip


def _failed(picture: Picture, request: Request, failure: FailureClass, detail: str) -> Answer:
    return Answer(picture.place, detail, Finish.FAILED, 0, 0, 0.0, failure, request_key=request.key)


def _no_price(model: str) -> None:
    """A captioner of one's own costs time, which the stage counts, and no money per token."""


def _quiet(line: str) -> None:
    """There is one server: it cannot be left out, and its faults are in the rows."""
