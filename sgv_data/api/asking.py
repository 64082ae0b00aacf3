"""One request to its end: paced, paid for, sent, tried again, judged, stored."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from sgv_data.api.budget import Budget
from sgv_data.api.cache import ReplyCache, StoredFailure, StoredReply, stored
from sgv_data.api.client import ChatClient, RawReply
from sgv_data.api.health import Health
from sgv_data.api.limiter import Limiter
from sgv_data.api.outcomes import EndRow, Fault, FaultKind, Retry, Stop, Wait, classify
from sgv_data.api.prices import TokenPrice
from sgv_data.api.reply import ParsedReply, parse_reply
from sgv_data.api.wire import Request
from sgv_data.errors import ProviderError
from sgv_data.manifest import Retry as RetryPolicy
from sgv_data.records import FailureClass, Outcome
from sgv_data.run_folder import utc_now

_FIRST_WAIT_S = 1.0
_JITTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request ended; the answer itself lies in the cache."""

    outcome: Outcome
    failure: FailureClass | None = None


class Stopping(Exception):
    """The run is stopping; the request was not sent (again)."""


class _Again(Exception):
    def __init__(self, fault: Fault, decision: Retry) -> None:
        super().__init__(fault.detail)
        self.fault, self.decision = fault, decision


class Asker:
    """Asks one provider. Everything it talks to is handed in; one per run."""

    def __init__(
        self,
        client: ChatClient,
        cache: ReplyCache,
        limiter: Limiter,
        budget: Budget,
        health: Health[StoredFailure],
        policy: RetryPolicy,
        price: TokenPrice | None,
        session: str,
        capped: bool,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client, self._cache, self._limiter, self._budget = client, cache, limiter, budget
        self._health, self._policy, self._price = health, policy, price
        self._session, self._capped, self._sleep = session, capped, sleep
        self._stopping = False
        self._excess = 1.0
        self.in_air: set[asyncio.Task[Any]] = set()

    async def ask(self, request: Request) -> Ended:
        """Sends a request until it ends. When this returns, the end is on the disk.

        Raises:
            ProviderError: no request will work; this one stays pending.
            BudgetReached: there is no money for it.
            Stopping: `stop` was called before it ended.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Again),
            stop=self._is_last,
            wait=self._pause_s,
            sleep=self._sleep,
            reraise=True,
        )
        tries = 0
        try:
            async for attempt in retrying:
                tries += 1
                with attempt:
                    return await self._try(request, tries)
        except _Again as again:
            return await self._give_up(request, again, tries)
        raise AssertionError("tenacity ends by returning or raising")

    def stop(self) -> None:
        """Lets requests in the air end and be stored; nothing more is sent."""
        self._stopping = True

    async def finish(self) -> None:
        """Records failures still held back, because the run came to its end."""
        await self._record(self._health.release())

    def _is_last(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        limit = self._policy.attempts
        if isinstance(error, _Again) and error.fault.kind is FaultKind.UNREACHABLE and self._health.max_tries:
            limit = min(limit, self._health.max_tries)
        return state.attempt_number >= limit

    def _pause_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.decision.min_wait_s if isinstance(error, _Again) else 0.0
        longest_s = self._policy.max_wait_s
        growing = wait_exponential_jitter(initial=min(_FIRST_WAIT_S, longest_s), max=longest_s, jitter=_JITTER_S)
        return max(asked_s, min(growing(state), longest_s))

    async def _try(self, request: Request, tries: int) -> Ended:
        """One try; pauses that the provider asks for are waited out and do not count."""
        while True:
            await self._limiter.acquire(request.likely_tokens)
            if self._stopping:
                raise Stopping
            result = await self._send(request, tries)
            if isinstance(result, ParsedReply):
                return Ended(result.outcome, FailureClass.BAD_REPLY if result.outcome is Outcome.FAILED else None)
            decision = classify(result)
            match decision:
                case Stop():
                    raise ProviderError(decision.message)
                case Wait():
                    self._raise_if(self._health.waits(decision))
                    self._limiter.pause(decision.seconds)
                case EndRow():
                    self._raise_if(self._health.refused(result, decision))
                    await self._record([self._failure(request, decision, tries)])
                    return Ended(Outcome.FAILED, decision.failure)
                case Retry():
                    raise _Again(result, decision)

    async def _send(self, request: Request, tries: int) -> ParsedReply | Fault:
        """Sends once, stores what comes and settles what it cost."""
        worst_usd = self._worst_usd(request)
        await self._budget.reserve(worst_usd)
        with self._airborne():
            opened = uuid.uuid4().hex if self._capped else None
            spent_usd = worst_usd
            try:
                if opened:
                    await stored(self._cache.open_request(opened, worst_usd, utc_now()))
                answer = await self._client.ask(request.body)
                if isinstance(answer, RawReply):
                    spent_usd, judged = await self._keep(request, answer, tries, worst_usd, opened)
                    return judged
                if not answer.may_be_billed:
                    spent_usd = 0.0
                    if opened:
                        await stored(self._cache.close_request(opened))
                return answer
            finally:
                await self._budget.settle(worst_usd, spent_usd)

    async def _keep(
        self, request: Request, raw: RawReply, tries: int, worst_usd: float, opened: str | None
    ) -> tuple[float, ParsedReply | Fault]:
        """Stores an answer; returns what it cost and what it is."""
        parsed = parse_reply(raw.body)
        if parsed.error is not None:
            if opened:
                await stored(self._cache.close_request(opened))
            error = parsed.error
            return 0.0, Fault(FaultKind.STATUS, error.message, 200, error.code, error.error_type, raw.headers)
        cost_usd = self._cost_usd(parsed, worst_usd)
        reply = StoredReply(
            request.key, raw.body, request.model, raw.request_id, tries, round(raw.latency_s, 3), utc_now(), cost_usd
        )
        written = self._cache.put(reply, parsed, opened)
        if parsed.prompt_tokens > request.most_prompt_tokens:
            self._excess = max(self._excess, parsed.prompt_tokens / request.most_prompt_tokens)
        await stored(written)
        if not parsed.finished:
            return cost_usd or 0.0, Fault(FaultKind.LOST, parsed.problem or "", 200, headers=raw.headers)
        self._limiter.answered()
        await self._record(self._health.answered())
        return cost_usd or 0.0, parsed

    def _worst_usd(self, request: Request) -> float:
        if self._price is None:
            return 0.0
        most_prompt = int(request.most_prompt_tokens * self._excess) + 1
        return self._price.cost_usd(most_prompt, request.most_completion_tokens)

    def _cost_usd(self, parsed: ParsedReply, worst_usd: float) -> float | None:
        """What an answer cost; without a word about usage, the worst."""
        if self._price is None:
            return None
        return self._price.cost_usd(parsed.prompt_tokens, parsed.completion_tokens) if parsed.has_usage else worst_usd

    async def _give_up(self, request: Request, again: _Again, tries: int) -> Ended:
        failure = self._failure(request, again.decision, tries)
        self._raise_if(self._health.gave_up(again.fault, failure))
        return Ended(Outcome.FAILED, again.decision.failure)

    def _failure(self, request: Request, decision: Retry | EndRow, tries: int) -> StoredFailure:
        return StoredFailure(request.key, decision.failure, decision.detail, tries, utc_now())

    async def _record(self, failures: list[StoredFailure]) -> None:
        for written in [self._cache.put_failure(self._session, failure) for failure in failures]:
            await stored(written)

    def _raise_if(self, stop: Stop | None) -> None:
        if stop is not None:
            raise ProviderError(stop.message)

    @contextmanager
    def _airborne(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self.in_air.add(task)
        try:
            yield
        finally:
            self.in_air.discard(task)
