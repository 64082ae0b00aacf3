"""From pictures to batches: each is prepared, written into the file of its model, and sent when the file is full."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator

from sgv_data.api.batch_words import batch_limits
from sgv_data.api.cache import StoredFailure, stored
from sgv_data.collect.batch_draft import Draft, Entry, FileLimits
from sgv_data.collect.batch_queue import Queue
from sgv_data.collect.batch_take import Desk
from sgv_data.collect.prepare import Prepared, Unusable, recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.workshop import Workshop
from sgv_data.errors import BudgetReached, ManifestError
from sgv_data.manifest import Teacher
from sgv_data.records import FailureClass, ImageRow, Outcome, image_order
from sgv_data.run_folder import utc_now

_PICTURES_AT_ONCE = 8
_CENT_FRACTION = 1e-9


class Filler:
    """Puts every pending picture into a batch, as far as queue and budget allow. Use as a context manager."""

    def __init__(self, desk: Desk, queue: Queue, questions: Questions, teacher: Teacher) -> None:
        self._desk, self._queue, self._questions, self._teacher = desk, queue, questions, teacher
        self._recipe = recipe_name(teacher)
        self._limits = FileLimits.of(teacher.batch, batch_limits())
        self._drafts: dict[str, Draft] = {}
        self._spent_usd = 0.0
        self.num_failed = 0

    def __enter__(self) -> Filler:
        return self

    def __exit__(self, *_: object) -> None:
        for draft in self._drafts.values():
            draft.file.close()

    async def fill(self, workshop: Workshop, pending: Iterator[list[ImageRow]]) -> None:
        """Returns when every pending picture was sent, waits in a batch already, or has ended.

        Raises:
            StillWaiting: batches must end before more may be sent, and the manifest says not to wait.
            BudgetReached: there is no money for more, and nothing open may give some back.
        """
        self._count_money()
        async for rows, ready in _ahead(workshop, pending):
            pictures = await self._usable(rows, ready)
            keys = [self._questions.key(row, picture.image) for row, picture in pictures]
            # Some may have ended since they were found pending: batches that were over have been taken meanwhile.
            done = self._desk.cache.answered(keys) | self._desk.ledger.waiting(keys)
            done |= self._desk.cache.failures(self._desk.session, keys).keys()
            for (row, picture), key in zip(pictures, keys, strict=True):
                if key not in done:
                    done.add(key)
                    await self._place(self._entry(row, picture))
            self._queue.tick()
        await self._send_all()

    async def _usable(
        self, rows: list[ImageRow], ready: list[Prepared | Unusable]
    ) -> list[tuple[ImageRow, Prepared]]:
        usable = []
        for row, picture in zip(rows, ready, strict=True):
            if isinstance(picture, Unusable):
                await self._fail(image_order(row.image_id), picture.failure, picture.detail)
            else:
                self._desk.cache.put_sent(row.sha256, self._recipe, picture.image)
                usable.append((row, picture))
        return usable

    def _entry(self, row: ImageRow, picture: Prepared) -> Entry:
        request = self._questions.request(row, picture.image, picture.data)
        price = self._desk.price(request.model)
        if price is None and self._teacher.budget_usd is not None:
            raise ManifestError(f"teacher.budget_usd is set, but the batch price of {request.model!r} is not known; "
                                "set teacher.price")
        worst = price.cost_usd(request.most_prompt_tokens, request.most_completion_tokens) if price else 0.0
        return Entry.of(request, worst)

    async def _place(self, entry: Entry) -> None:
        if entry.key in self._drafted_keys(entry.model):
            return
        if len(entry.line) > self._limits.max_bytes:
            detail = f"its line of {len(entry.line):,} bytes is more than a batch file may hold"
            await self._fail(entry.key, FailureClass.BAD_IMAGE, detail)
            return
        draft = self._drafts.get(entry.model)
        if draft is not None and not draft.has_room(entry, self._limits):
            await self._send(entry.model)
        await self._wait_for_tokens(entry)
        await self._wait_for_money(entry)
        if entry.model not in self._drafts:
            self._drafts[entry.model] = Draft(self._desk.folder, entry.model)
        self._drafts[entry.model].add(entry)

    def _drafted_keys(self, model: str) -> dict[str, float]:
        return self._drafts[model].worst_usd_by_key if model in self._drafts else {}

    async def _wait_for_tokens(self, entry: Entry) -> None:
        drafted = sum(draft.prompt_tokens for draft in self._drafts.values())
        if self._queue.has_room(drafted + entry.prompt_tokens):
            return
        await self._send_all()
        if not await self._queue.until(lambda: self._queue.has_room(entry.prompt_tokens)):
            raise ManifestError(f"teacher.batch.max_enqueued_tokens is less than one picture needs "
                                f"({entry.prompt_tokens:,} prompt tokens); raise it")

    async def _wait_for_money(self, entry: Entry) -> None:
        if self._affords(entry):
            return
        await self._send_all()
        if not await self._queue.until(lambda: self._affords(entry, anew=True)):
            raise BudgetReached(
                f"teacher.budget_usd is used up: ${self._spent_usd:.4f} of ${self._teacher.budget_usd:.4f} spent, and "
                f"the next picture may cost ${entry.worst_usd * self._queue.excess:.4f}. Everything answered is "
                "stored; raise the budget and run the same command again to go on"
            )

    def _affords(self, entry: Entry, anew: bool = False) -> bool:
        """Whether the cap leaves room for one more request at its worst, beside all that is open."""
        if self._teacher.budget_usd is None:
            return True
        if anew:
            self._count_money()
        worst_usd = sum(draft.worst_usd for draft in self._drafts.values()) + entry.worst_usd
        open_usd = sum(batch.worst_usd for batch in self._queue.open) * (self._queue.excess - 1)
        planned_usd = self._spent_usd + open_usd + worst_usd * self._queue.excess
        return planned_usd <= self._teacher.budget_usd + _CENT_FRACTION

    def _count_money(self) -> None:
        if self._teacher.budget_usd is not None:
            self._spent_usd = self._desk.cache.spent_usd(self._desk.price(self._teacher.model))

    async def _send_all(self) -> None:
        for model in list(self._drafts):
            await self._send(model)

    async def _send(self, model: str) -> None:
        with self._drafts.pop(model) as draft:
            await self._queue.send(draft)
        self._count_money()

    async def _fail(self, subject: str, failure: FailureClass, detail: str) -> None:
        """Ends a picture that cannot be sent."""
        await stored(self._desk.cache.put_failure(
            self._desk.session, StoredFailure(subject, failure, detail, 0, utc_now())
        ))  # fmt: skip
        self.num_failed += 1
        self._desk.watch.ended(Outcome.FAILED, failure, detail, 0)


async def _ahead(
    workshop: Workshop, pending: Iterator[list[ImageRow]]
) -> AsyncIterator[tuple[list[ImageRow], list[Prepared | Unusable]]]:
    """Pictures with what became of them, in order, while the worker processes are kept busy with the next ones."""
    ahead: deque[tuple[list[ImageRow], asyncio.Task[list[Prepared | Unusable]]]] = deque()
    while (part := await asyncio.to_thread(next, pending, None)) is not None:
        for start in range(0, len(part), _PICTURES_AT_ONCE):
            rows = part[start : start + _PICTURES_AT_ONCE]
            ahead.append((rows, workshop.prepare(rows)))
            if len(ahead) > 2 * workshop.num_workers:
                first, ready = ahead.popleft()
                yield first, await ready
    while ahead:
        first, ready = ahead.popleft()
        yield first, await ready
