"""Files and Batches of a provider: upload, create, look, cancel, download. Every call is tried until it works.

Nothing is made twice: a call whose answer was lost may have worked, so that before an upload or a batch is asked for
again, the provider is asked whether it is there, by the name that it was given here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import IO, Any, NoReturn, TypeVar

import httpx2
from openai import APIConnectionError, APIStatusError
from pydantic import ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from sgv_data.api.batch_words import CHAT_URL, INTENT, RUN, Page, RemoteBatch, RemoteFile, Said, batch_limits
from sgv_data.api.client import ChatClient, connection_fault
from sgv_data.api.health import PATIENCE_S, TRIES_BEFORE_FIRST_ANSWER
from sgv_data.api.outcomes import EndRow, Fault, FaultKind, Retry, Stop, Wait, classify
from sgv_data.errors import ProviderError
from sgv_data.manifest import Retry as RetryPolicy

_FIRST_WAIT_S = 1.0
_JITTER_S = 0.5
_SLOWEST_BYTES_PER_S = 250_000.0
_PER_PAGE = 100
_TRIES_TO_DELETE = 3
_CLOCKS_DIFFER_S = 3600.0
_CHUNK_BYTES = 1 << 16
_MOST_METADATA_CHARS = 512

Made = TypeVar("Made")


class _Again(Exception):
    """A call failed in a way that may pass; the provider asks for a pause of `asked_s`."""

    def __init__(self, asked_s: float) -> None:
        super().__init__(asked_s)
        self.asked_s = asked_s


class BatchClient:
    """Batches at one endpoint. Faults that may pass are waited out, for `patience_s` once anything was ever answered.

    All methods raise ProviderError when no further try will help; what was sent before stays where it is.
    """

    def __init__(
        self,
        client: ChatClient,
        base_url: str,
        timeout_s: float,
        policy: RetryPolicy,
        faulted: Callable[[str], None] = lambda name: None,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._openai, self.base_url = client, client.openai, base_url
        self._timeout_s, self._policy, self._faulted = timeout_s, policy, faulted
        self._patience_s, self._sleep, self._clock = patience_s, sleep, clock
        self._ever_answered = False

    async def upload(self, file: IO[bytes], name: str, num_bytes: int, since_utc: str) -> str:
        """Sends a file in pieces, never whole in memory; returns the provider's id of it."""

        async def send() -> RemoteFile | Fault:
            file.seek(0)
            allowed_s = self._timeout_s + num_bytes / _SLOWEST_BYTES_PER_S
            sent = self._openai.files.with_raw_response.create(
                file=(name, file), purpose="batch", timeout=httpx2.Timeout(allowed_s, connect=self._timeout_s)
            )
            return await self._said(RemoteFile, sent, allowed_s)

        async def find() -> RemoteFile | None:
            return await self.find_file(name, num_bytes, since_utc)

        return (await self._patiently("upload a file", send, find)).id

    async def find_file(self, name: str, num_bytes: int, since_utc: str) -> RemoteFile | None:
        """A file uploaded under this name since then, if it is there whole. Not every server can list files: then
        none is found, and a file that was there all the same is left to it."""
        async for found in self._listed("/files", RemoteFile, {"purpose": "batch", "order": "desc"}, since_utc):
            if found.filename == name and found.bytes in (None, num_bytes):
                return found
        return None

    async def create(self, file_id: str, intent: str, run: str, since_utc: str) -> RemoteBatch:
        """Asks for the batch of an uploaded file; never for a second one of the same intent."""
        body = {
            "input_file_id": file_id,
            "endpoint": CHAT_URL,
            "completion_window": batch_limits().completion_window,
            "metadata": {INTENT: intent, RUN: run[:_MOST_METADATA_CHARS]},
        }

        async def send() -> RemoteBatch | Fault:
            return await self._said(RemoteBatch, self._openai.post("/batches", cast_to=httpx2.Response, body=body))

        async def find() -> RemoteBatch | None:
            return await self.find(intent, since_utc)

        return await self._patiently("create a batch", send, find)

    async def find(self, intent: str, since_utc: str) -> RemoteBatch | None:
        """The batch of an intent, if the provider has it."""
        async for found in self._listed("/batches", RemoteBatch, {}, since_utc):
            if found.intent == intent:
                return found
        return None

    async def look(self, batch_id: str) -> RemoteBatch:
        """How a batch is doing."""

        async def send() -> RemoteBatch | Fault:
            return await self._said(RemoteBatch, self._openai.get(f"/batches/{batch_id}", cast_to=httpx2.Response))

        return await self._patiently(f"look at the batch {batch_id}", send)

    async def cancel(self, batch_id: str) -> RemoteBatch:
        """Asks the provider to stop a batch; what it has finished until then will be there, and billed."""

        async def send() -> RemoteBatch | Fault:
            path = f"/batches/{batch_id}/cancel"
            return await self._said(RemoteBatch, self._openai.post(path, cast_to=httpx2.Response))

        return await self._patiently(f"cancel the batch {batch_id}", send)

    async def download(self, file_id: str, target: IO[bytes]) -> bool:
        """Writes a file of results into `target`, in pieces. False: the provider no longer has it."""

        async def send() -> bool | Fault:
            target.seek(0)
            target.truncate()
            try:
                async with self._openai.files.with_streaming_response.content(file_id) as response:
                    async for chunk in response.iter_bytes(_CHUNK_BYTES):
                        target.write(chunk)
            except APIStatusError as exc:
                if exc.status_code in (404, 410):
                    return False
                return self._client.fault_of(exc.status_code, exc.response.headers, exc.response.content)
            except APIConnectionError as exc:
                return connection_fault(exc)
            except httpx2.HTTPError as exc:
                return Fault(FaultKind.LOST, f"the connection broke: {type(exc).__name__}")
            return True

        return await self._patiently(f"download the results {file_id}", send)

    async def forget_file(self, file_id: str) -> None:
        """Deletes a file at the provider, where they count against its space. A few tries: it does no harm there."""
        for _ in range(_TRIES_TO_DELETE):
            result = await self._said(RemoteFile, self._openai.delete(f"/files/{file_id}", cast_to=httpx2.Response))
            if not isinstance(result, Fault) or not isinstance(decision := classify(result), Retry | Wait):
                return
            asked_s = decision.min_wait_s if isinstance(decision, Retry) else decision.seconds or 0.0
            await self._sleep(min(max(asked_s, _FIRST_WAIT_S), self._policy.max_wait_s))

    # --- how calls are made ---

    async def _said(
        self, kind: type[Made], calling: Awaitable[Any], allowed_s: float | None = None
    ) -> Made | Fault:
        """One call: what the provider said, or what went wrong."""
        assert issubclass(kind, Said)
        try:
            async with asyncio.timeout(allowed_s or self._timeout_s):
                answer = await calling
        except TimeoutError:
            return Fault(FaultKind.TIMED_OUT, f"no answer within {allowed_s or self._timeout_s:g} s")
        except APIStatusError as exc:
            return self._client.fault_of(exc.status_code, exc.response.headers, exc.response.content)
        except APIConnectionError as exc:
            return connection_fault(exc)
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError:
            return self._misfit(answer.content)

    def _misfit(self, content: bytes) -> Fault:
        """An answer with status 200 that is not what was asked for: an error all the same, or broken."""
        fault = self._client.fault_of(200, {}, content)
        return fault if fault.code or fault.error_type else Fault(FaultKind.LOST, fault.detail, 200)

    async def _listed(
        self, path: str, kind: type[Made], query: dict[str, str], since_utc: str
    ) -> AsyncIterator[Made]:
        """Everything in a list that is not older than `since_utc`, newest first."""
        oldest = datetime.fromisoformat(since_utc).timestamp() - _CLOCKS_DIFFER_S
        after: str | None = None
        while True:
            page = await self._page(path, {**query, "limit": str(_PER_PAGE)} | ({"after": after} if after else {}))
            items = [kind.model_validate(item) for item in page.data]  # type: ignore[attr-defined]
            for item in items:
                yield item
            if not page.has_more or not items or items[-1].id == after:
                return
            if all((item.created_at or oldest) < oldest for item in items):
                return
            after = items[-1].id

    async def _page(self, path: str, query: dict[str, str]) -> Page:
        async def send() -> Page | Fault:
            options: Any = {"params": query}
            page = await self._said(Page, self._openai.get(path, cast_to=httpx2.Response, options=options))
            no_list = isinstance(page, Fault) and page.status in (404, 405) and path == "/files"
            return Page(data=()) if no_list else page

        return await self._patiently(f"list {path}", send)

    async def _patiently(
        self,
        what: str,
        send: Callable[[], Awaitable[Made | Fault]],
        find: Callable[[], Awaitable[Made | None]] | None = None,
    ) -> Made:
        """Calls until it works. `find` looks whether an earlier try worked although its answer was lost."""
        began_s, tries, may_have_worked = self._clock(), 0, False

        async def once() -> Made:
            nonlocal tries, may_have_worked
            if may_have_worked and find is not None and (found := await find()) is not None:
                return found
            result = await send()
            if not isinstance(result, Fault):
                self._ever_answered = True
                return result
            tries += 1
            may_have_worked = may_have_worked or result.kind is not FaultKind.UNREACHABLE
            self._faulted(result.name)
            asked_s = self._asked_wait_s(what, result)
            self._stop_if_hopeless(what, result, tries, self._clock() - began_s)
            raise _Again(asked_s)

        retrying = AsyncRetrying(retry=retry_if_exception_type(_Again), wait=self._pause_s, sleep=self._sleep)
        return await retrying(once)

    def _pause_s(self, state: RetryCallState) -> float:
        """What the provider asks for, and at least a pause that doubles from try to try."""
        again = state.outcome.exception() if state.outcome else None
        longest_s = self._policy.max_wait_s
        growing = wait_exponential_jitter(initial=min(_FIRST_WAIT_S, longest_s), max=longest_s, jitter=_JITTER_S)
        return max(again.asked_s if isinstance(again, _Again) else 0.0, growing(state))

    def _asked_wait_s(self, what: str, fault: Fault) -> float:
        """How long the provider asks to wait; raises if no other try will help."""
        if fault.status in (404, 405) and fault.code is None:
            self._fail(what, f"there is no such thing at {self.base_url} ({fault.detail}). If the server has no "
                             "Batch API, use teacher.lane: live; if it no longer knows this batch, `sgv batches "
                             "MANIFEST --forget BATCH` writes it off")
        decision = classify(fault)
        if isinstance(decision, Stop):
            self._fail(what, decision.message)
        if isinstance(decision, EndRow):
            self._fail(what, decision.detail)
        return (decision.seconds or 0.0) if isinstance(decision, Wait) else decision.min_wait_s

    def _stop_if_hopeless(self, what: str, fault: Fault, tries: int, passed_s: float) -> None:
        if self._ever_answered:
            hopeless = tries >= self._policy.attempts and passed_s >= self._patience_s
        else:
            limit = self._policy.attempts
            unreachable = fault.kind is FaultKind.UNREACHABLE
            hopeless = tries >= (min(limit, TRIES_BEFORE_FIRST_ANSWER) if unreachable else limit)
        if hopeless:
            self._fail(what, f"{self.base_url}: {fault.detail.rstrip('.')}. Nothing is lost; run the same command "
                             "again when it is well")

    def _fail(self, what: str, why: str) -> NoReturn:
        raise ProviderError(f"cannot {what}: {why}")
