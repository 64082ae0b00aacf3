"""Those at work: a feeder that prepares pictures ahead, a sender that hands them to endpoints, and one task per request
in the air. A request that waits for its next try is none of these: it lies in the backlog."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass

from sgv_data.api.asking import Again, Asker, Leave
from sgv_data.api.backlog import Backlog
from sgv_data.api.cache import ReplyCache, StoredFailure, stored
from sgv_data.api.keys import SentImage
from sgv_data.api.wire import Request
from sgv_data.collect.prepare import Prepared, Unusable
from sgv_data.collect.questions import Questions
from sgv_data.collect.watch import Watch
from sgv_data.collect.workshop import Workshop
from sgv_data.records import ImageRow, Outcome, image_order
from sgv_data.run_folder import utc_now

_PICTURES_PER_BATCH = 8
_LAST_ANSWERS_S = 30.0
_LAST_CALL_S = 0.4
_SECONDS_BETWEEN_LOOKS = 0.25


@dataclass(slots=True)
class Job:
    """A picture that is asked about. `tries` is how many tries it has used up, `avoid` where it failed last."""

    row: ImageRow
    image: SentImage
    data: bytes
    tries: int = 0
    avoid: str = ""


class Crew:
    """Asks about every pending picture. One per run; all it needs is handed in.

    `look` is called a few times a second with whether the sending waits for pictures to be prepared.
    """

    def __init__(
        self,
        asker: Asker,
        cache: ReplyCache,
        questions: Questions,
        workshop: Workshop,
        backlog: Backlog[Job],
        watch: Watch,
        session: str,
        recipe: str,
        look: Callable[[bool], None],
    ) -> None:
        self._asker, self._cache, self._questions, self._workshop = asker, cache, questions, workshop
        self._backlog, self._watch, self._look = backlog, watch, look
        self._session, self._recipe = session, recipe
        self._under_way: set[str] = set()
        self._in_air: set[asyncio.Task[None]] = set()
        self._at_work: list[asyncio.Task[None]] = []
        self._is_fed = False
        self._end: asyncio.Future[None]
        self.num_ended = 0

    async def work(self, pending: Iterator[list[ImageRow]]) -> None:
        """Returns when every pending picture has ended on disk.

        Raises:
            SgvError: the run stops (provider, budget, disk, alarm). After this and every other error, requests in the
                air, which are paid for, were still awaited and stored.
            CancelledError: the user wants it to end; what is in the air gets a moment, then it is let go.
        """
        self._end = asyncio.get_running_loop().create_future()
        tasks = [self._start(work) for work in (self._feed(pending), self._send_all(), self._look_around())]
        self._at_work = tasks
        patience_s = _LAST_ANSWERS_S
        try:
            await self._end
            await self._asker.finish()
        except asyncio.CancelledError:
            patience_s = _LAST_CALL_S
            raise
        finally:
            try:
                await self._land(tasks, patience_s)
            finally:
                left = [*tasks, *self._in_air]
                for task in left:
                    task.cancel()
                await asyncio.gather(*left, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Runs beside the others; an error ends them all."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._check)
        return task

    def _check(self, task: asyncio.Task[None]) -> None:
        self._in_air.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._end.done():
            self._end.set_exception(error)
            # At once: `work` wakes only after those that the ended request made room for.
            for other in self._at_work:
                other.cancel()

    async def _land(self, tasks: list[asyncio.Task[None]], limit_s: float) -> None:
        """Sends nothing more and waits for what is in the air."""
        for task in tasks:
            task.cancel()
        if self._in_air:
            await asyncio.wait(self._in_air, timeout=limit_s)

    # --- pictures ---

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
        self._is_fed = True
        self._backlog.complete()

    async def _hand_out(self, rows: list[ImageRow], ready: asyncio.Task[list[Prepared | Unusable]]) -> None:
        for row, picture in zip(rows, await ready, strict=True):
            if isinstance(picture, Unusable):
                await self._write_off(row, picture)
                continue
            self._cache.put_sent(row.sha256, self._recipe, picture.image)
            key = self._questions.key(row, picture.image)
            if key in self._under_way or self._cache.answered([key]):
                # The same bytes under another name: one answer serves both.
                self.num_ended += 1
                self._watch.shared()
                continue
            self._under_way.add(key)
            await self._backlog.put(Job(row, picture.image, picture.data))

    async def _write_off(self, row: ImageRow, picture: Unusable) -> None:
        failure = StoredFailure(image_order(row.image_id), picture.failure, picture.detail, 0, utc_now())
        await stored(self._cache.put_failure(self._session, failure))
        self.num_ended += 1
        self._watch.ended(Outcome.FAILED, picture.failure, picture.detail, 0)

    # --- requests ---

    async def _send_all(self) -> None:
        while (job := await self._backlog.take()) is not None:
            request = self._questions.request(job.row, job.image, job.data)
            leave = await self._asker.leave(request, job.avoid)
            self._in_air.add(self._start(self._ask(job, request, leave)))
        if not self._end.done():
            self._end.set_result(None)

    async def _ask(self, job: Job, request: Request, leave: Leave) -> None:
        result = await self._asker.ask(request, leave, job.tries + 1)
        if isinstance(result, Again):
            job.tries, job.avoid = job.tries + result.counts, result.avoid
            self._backlog.put_back(job, result.pause_s)
            return
        self._under_way.discard(request.key)
        self.num_ended += 1
        self._backlog.ended()
        self._watch.ended(result.outcome, result.failure, result.text, result.used_tokens)

    async def _look_around(self) -> None:
        while True:
            self._look(not self._is_fed and not self._backlog.num_fresh)
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
