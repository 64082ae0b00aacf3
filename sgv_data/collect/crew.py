"""The people at work: one feeder that prepares pictures, a fixed number of workers that ask about them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sgv_data.api.asking import Asker, Stopping
from sgv_data.api.budget import Budget
from sgv_data.api.cache import ReplyCache, StoredFailure, stored
from sgv_data.api.keys import SentImage
from sgv_data.api.limiter import Limiter
from sgv_data.collect.prepare import Prepared, Unusable
from sgv_data.collect.questions import Questions
from sgv_data.collect.workshop import Workshop
from sgv_data.progress import Progress
from sgv_data.records import FailureClass, ImageRow, Outcome, image_order
from sgv_data.run_folder import utc_now

_PICTURES_PER_BATCH = 8
_MOST_QUEUED = 128
_LAST_ANSWERS_S = 30.0
_RATE_OVER = 200


@dataclass(slots=True)
class Counts:
    """What happened in this run, for the progress line."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: Counter[FailureClass] = field(default_factory=Counter)
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RATE_OVER))

    def add(self, outcome: Outcome, failure: FailureClass | None) -> None:
        self.outcomes[outcome] += 1
        self.recent_s.append(time.monotonic())
        if failure is not None:
            self.failures[failure] += 1

    def rate_per_s(self) -> float:
        """Answers per second over the last couple of hundred."""
        if len(self.recent_s) < 2:
            return 0.0
        return (len(self.recent_s) - 1) / max(time.monotonic() - self.recent_s[0], 1e-3)


@dataclass(frozen=True, slots=True)
class Job:
    row: ImageRow
    image: SentImage
    data: bytes


class Crew:
    """Asks about every pending picture. One per run; all it needs is handed in."""

    def __init__(
        self,
        asker: Asker,
        cache: ReplyCache,
        questions: Questions,
        workshop: Workshop,
        limiter: Limiter,
        budget: Budget,
        progress: Progress,
        session: str,
        recipe: str,
        in_flight: int,
    ) -> None:
        self._asker, self._cache, self._questions, self._workshop = asker, cache, questions, workshop
        self._limiter, self._budget, self._progress = limiter, budget, progress
        self._session, self._recipe, self._in_flight = session, recipe, in_flight
        self._jobs: asyncio.Queue[Job | None] = asyncio.Queue(min(in_flight, _MOST_QUEUED))
        self._under_way: set[str] = set()
        self.counts = Counts()

    async def work(self, pending: Iterator[list[ImageRow]]) -> None:
        """Returns when every pending picture has ended on disk.

        Raises:
            ProviderError, BudgetReached, DiskError: the run stops; requests in the air were still awaited and stored.
        """
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(self._feed(pending))]
        tasks += [asyncio.create_task(self._ask_until_done()) for _ in range(self._in_flight)]
        try:
            done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            await self._land(rest)
            for task in (*done, *rest):
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error
            await self._asker.finish()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _land(self, rest: set[asyncio.Task[None]]) -> None:
        """Ends what still runs; what is in the air is paid for, so its answers are awaited for a while."""
        if not rest:
            return
        self._asker.stop()
        for task in rest - self._asker.in_air:
            task.cancel()
        _, late = await asyncio.wait(rest, timeout=_LAST_ANSWERS_S)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _feed(self, pending: Iterator[list[ImageRow]]) -> None:
        """Reads ahead and keeps every worker process busy; results are taken in the order they were asked for."""
        ahead: deque[tuple[list[ImageRow], asyncio.Task[list[Prepared | Unusable]]]] = deque()
        while (part := await asyncio.to_thread(next, pending, None)) is not None:
            for start in range(0, len(part), _PICTURES_PER_BATCH):
                rows = part[start : start + _PICTURES_PER_BATCH]
                ahead.append((rows, self._workshop.prepare(rows)))
                if len(ahead) > 2 * self._workshop.num_workers:
                    await self._hand_out(*ahead.popleft())
        while ahead:
            await self._hand_out(*ahead.popleft())
        for _ in range(self._in_flight):
            await self._jobs.put(None)

    async def _hand_out(self, rows: list[ImageRow], ready: asyncio.Task[list[Prepared | Unusable]]) -> None:
        for row, picture in zip(rows, await ready, strict=True):
            if isinstance(picture, Unusable):
                await self._write_off(row, picture)
                continue
            self._cache.put_sent(row.sha256, self._recipe, picture.image)
            key = self._questions.key(row, picture.image)
            if key in self._under_way or self._cache.answered([key]):
                # The same bytes under another name: one answer serves both.
                self._progress.advance(1)
                continue
            self._under_way.add(key)
            await self._jobs.put(Job(row, picture.image, picture.data))

    async def _write_off(self, row: ImageRow, picture: Unusable) -> None:
        failure = StoredFailure(image_order(row.image_id), picture.failure, picture.detail, 0, utc_now())
        await stored(self._cache.put_failure(self._session, failure))
        self.counts.add(Outcome.FAILED, picture.failure)
        self._progress.advance(1)

    async def _ask_until_done(self) -> None:
        while (job := await self._jobs.get()) is not None:
            request = self._questions.request(job.row, job.image, job.data)
            try:
                ended = await self._asker.ask(request)
            except Stopping:
                return
            self._under_way.discard(request.key)
            self.counts.add(ended.outcome, ended.failure)
            self._progress.advance(1, self.note())

    def note(self) -> str:
        """One line: how fast, how much, what came of it."""
        parts = [f"{self.counts.rate_per_s():.1f}/s", f"{len(self._asker.in_air)} in flight"]
        if self._budget.spent_usd:
            parts.append(f"${self._budget.spent_usd:.4f}")
        if (paused_s := self._limiter.paused_for_s()) > 0:
            parts.append(f"paused {paused_s:.0f} s")
        counts: Counter[Any] = Counter(self.counts.outcomes)
        parts += [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
        return ", ".join(parts)
