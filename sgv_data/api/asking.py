"""One try of one request: paid for, sent, judged, stored. What is to be done next comes back as a value."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sgv_data.api.budget import Budget
from sgv_data.api.cache import ReplyCache, StoredFailure, StoredReply, stored
from sgv_data.api.client import RawReply
from sgv_data.api.fleet import Fleet, Passage
from sgv_data.api.outcomes import EndRow, Fault, FaultKind, Retry, Stop, Wait, classify
from sgv_data.api.prices import TokenPrice
from sgv_data.api.reply import ParsedReply, parse_reply
from sgv_data.api.wire import Request
from sgv_data.manifest import Retry as RetryPolicy
from sgv_data.records import FailureClass, Outcome
from sgv_data.run_folder import utc_now

_FIRST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A request has its end, which lies in the cache. `text`: the caption, or what was said of a refusal or failure."""

    outcome: Outcome
    failure: FailureClass | None = None
    text: str = ""
    used_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """The same request is to be sent again after a pause. `counts`: a try is used up. `avoid`: where it failed."""

    pause_s: float
    counts: bool
    avoid: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave to send one request: an endpoint with room, and money set aside."""

    passage: Passage
    worst_usd: float


class Asker:
    """Asks the endpoints of a run. Everything it talks to is handed in; one per run. `price` is by model."""

    def __init__(
        self,
        fleet: Fleet,
        cache: ReplyCache,
        budget: Budget,
        policy: RetryPolicy,
        price: Callable[[str], TokenPrice | None],
        session: str,
        on_fault: Callable[[str], None],
        rng: random.Random,
    ) -> None:
        self._fleet, self._cache, self._budget = fleet, cache, budget
        self._policy, self._price, self._session = policy, price, session
        self._on_fault, self._rng = on_fault, rng
        self._held: list[StoredFailure] = []
        self._has_seen_a_bill = False

    async def leave(self, request: Request, avoid: str = "") -> Leave:
        """Waits for money and for room at an endpoint, not at `avoid` if there is another. For one reader at a time.

        Under a cap the first request goes alone: its bill tells whether the worst case is one.

        Raises:
            BudgetReached: there is no money for it.
        """
        worst_usd = self._worst_usd(request)
        await self._budget.reserve(worst_usd, alone=not self._has_seen_a_bill)
        try:
            return Leave(await self._fleet.take(request.likely_tokens, avoid), worst_usd)
        except BaseException:
            await self._budget.settle(worst_usd, 0.0)
            raise

    async def ask(self, request: Request, leave: Leave, tries: int) -> Ended | Again:
        """Sends a request once; `tries` counts this one. What it says has happened is on the disk.

        Raises:
            ProviderError: no endpoint is left; the request stays pending.
            DiskError: the answer could not be stored.
        """
        passage = leave.passage
        try:
            result = await self._send(request, leave, tries)
            return await self._judge(request, passage, result, tries)
        finally:
            passage.failed()

    async def finish(self) -> None:
        """Records failures still held back, because the run came to its end."""
        await self._record_held()

    # --- sending ---

    async def _send(self, request: Request, leave: Leave, tries: int) -> tuple[ParsedReply, RawReply] | Fault:
        """Sends once, stores what comes and settles what it cost."""
        worst_usd = leave.worst_usd * self._budget.excess
        opened = uuid.uuid4().hex if self._budget.cap_usd is not None else None
        spent_usd = 0.0
        try:
            if opened:
                await stored(self._cache.open_request(opened, worst_usd, utc_now()))
            spent_usd = worst_usd
            answer = await leave.passage.member.client.ask(request.body)
            if isinstance(answer, RawReply):
                parsed = parse_reply(answer.body)
                if parsed.error is None:
                    cost_usd = self._cost_usd(request, parsed, worst_usd)
                    spent_usd = cost_usd or 0.0
                    await self._store(request, answer, parsed, tries, cost_usd, opened)
                    return parsed, answer
                answer = leave.passage.member.client.fault_of(200, answer.headers, answer.body)
            if not answer.may_be_billed:
                spent_usd = 0.0
                if opened:
                    await stored(self._cache.close_request(opened))
            return answer
        finally:
            await self._budget.settle(leave.worst_usd, spent_usd)

    async def _store(
        self,
        request: Request,
        raw: RawReply,
        parsed: ParsedReply,
        tries: int,
        cost_usd: float | None,
        opened: str | None,
    ) -> None:
        reply = StoredReply(
            request.key, raw.body, request.model, raw.request_id, tries, round(raw.latency_s, 3), utc_now(), cost_usd
        )
        await stored(self._cache.put(reply, parsed, opened))

    def _worst_usd(self, request: Request) -> float:
        price = self._price(request.model)
        return price.cost_usd(request.most_prompt_tokens, request.most_completion_tokens) if price else 0.0

    def _cost_usd(self, request: Request, parsed: ParsedReply, worst_usd: float) -> float | None:
        """What an answer cost; without a believable word about usage, the worst. None: no price is known."""
        price = self._price(request.model)
        if price is None:
            return None
        if not (parsed.has_usage and parsed.prompt_tokens and (parsed.completion_tokens or not parsed.text)):
            return worst_usd
        self._has_seen_a_bill = True
        return price.cost_usd(parsed.prompt_tokens, parsed.completion_tokens)

    # --- judging ---

    async def _judge(
        self, request: Request, passage: Passage, result: tuple[ParsedReply, RawReply] | Fault, tries: int
    ) -> Ended | Again:
        if not isinstance(result, Fault):
            parsed, raw = result
            if parsed.finished:
                return await self._answered(passage, parsed, raw)
            result = Fault(FaultKind.LOST, parsed.problem or "", 200, headers=raw.headers)
        self._on_fault(result.name)
        decision = classify(result)
        match decision:
            case Stop():
                passage.answered(result.headers, None)
                return self._without(passage, decision)
            case Wait():
                passage.slowed(decision.seconds, result.headers, decision.slow_down)
                return self._without(passage, passage.member.health.waits(decision))
            case EndRow():
                return await self._turned_down(request, passage, result, decision, tries)
            case Retry():
                return await self._failed(request, passage, result, decision, tries)

    async def _answered(self, passage: Passage, parsed: ParsedReply, raw: RawReply) -> Ended:
        used_tokens = parsed.prompt_tokens + parsed.completion_tokens
        passage.answered(raw.headers, used_tokens if parsed.has_usage else None)
        passage.member.health.answered()
        self._fleet.came_back(passage.member)
        await self._record_held()
        failure = FailureClass.BAD_REPLY if parsed.outcome is Outcome.FAILED else None
        return Ended(parsed.outcome, failure, parsed.problem or parsed.text, used_tokens)

    async def _turned_down(
        self, request: Request, passage: Passage, fault: Fault, decision: EndRow, tries: int
    ) -> Ended | Again:
        passage.answered(fault.headers, None)
        stop = passage.member.health.refused(fault, decision)
        if stop is not None:
            return self._without(passage, stop)
        failure = StoredFailure(request.key, decision.failure, decision.detail, tries, utc_now())
        if decision.failure is FailureClass.BAD_REQUEST:
            self._held.append(failure)  # perhaps a fault of the settings, which every request will meet
        else:
            await stored(self._cache.put_failure(self._session, failure))
        return Ended(Outcome.FAILED, decision.failure, decision.detail)

    async def _failed(
        self, request: Request, passage: Passage, fault: Fault, decision: Retry, tries: int
    ) -> Ended | Again:
        health, counts = passage.member.health, passage.member.health.is_well
        passage.failed()
        if decision.min_wait_s:
            passage.member.controller.pause(decision.min_wait_s)
        stop = health.failed(request.key, fault, decision, passage.is_look)
        if stop is not None or not counts:
            return self._without(passage, stop)
        if tries >= self._policy.attempts:
            # Held back until something is answered: if nothing ever is, it was not the row's fault.
            self._held.append(StoredFailure(request.key, decision.failure, decision.detail, tries, utc_now()))
            return Ended(Outcome.FAILED, decision.failure, decision.detail)
        return Again(self._pause_s(tries, decision.min_wait_s), counts=True, avoid=passage.member.name)

    def _without(self, passage: Passage, stop: Stop | None) -> Again:
        """The request is not at fault; another endpoint, or the same one later, may take it."""
        if stop is not None:
            self._fleet.leave_out(passage.member, stop)
        return Again(0.0, counts=False)

    def _pause_s(self, tries: int, min_wait_s: float) -> float:
        """Doubles from try to try; with a share of chance, so that those who failed together do not come together."""
        longest_s = self._policy.max_wait_s
        growing_s = min(_FIRST_WAIT_S * 2.0 ** (tries - 1), longest_s)
        return max(min_wait_s, growing_s * (0.5 + self._rng.random()))

    async def _record_held(self) -> None:
        held, self._held = self._held, []
        for written in [self._cache.put_failure(self._session, failure) for failure in held]:
            await stored(written)
