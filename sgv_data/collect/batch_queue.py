"""The run's batches at the provider: looked at now and then, taken when they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from sgv_data.api.batch_ledger import Batch, BatchState, RowState
from sgv_data.api.batch_words import RemoteBatch
from sgv_data.api.cache import stored
from sgv_data.collect.batch_draft import Draft
from sgv_data.collect.batch_send import Sender
from sgv_data.collect.batch_take import Desk, Taken, Taking, Told
from sgv_data.collect.snapshot import EndpointState, Snapshot
from sgv_data.errors import AlarmRaised, ProviderError, SgvError, StillWaiting, redact
from sgv_data.manifest import BatchLane
from sgv_data.printable import printable
from sgv_data.progress import Progress

QUEUE_FULL = "token_limit_exceeded"
SERVERS_OWN = frozenset({"internal_error", "internal_server_error", "server_error", "server_is_overloaded",
                         "service_unavailable", "timeout"})
"""Reasons for turning a whole file down that have nothing to do with what is in it."""
_BINDING = "the provider's batch queue"
_TICK_S = 1.0
_MOST_PROBLEMS = 3
_PROBLEM_CHARS = 300


class Shown(Told, Protocol):
    """Who is told what happens, and shows it (`watch.Watch`)."""

    def tick(
        self,
        endpoints: Sequence[EndpointState],
        in_flight: int,
        backing_off: int,
        binding: str | None = None,
        last: bool = False,
    ) -> Snapshot: ...


class Queue:
    """One per run. `open`: batches at the provider; `num_ended`: pictures that came to their end in this command.

    `spent` is called when money was spent or set aside.
    """

    def __init__(
        self,
        desk: Desk,
        sender: Sender,
        lane: BatchLane,
        watch: Shown,
        progress: Progress,
        spent: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._desk, self._sender, self._lane = desk, sender, lane
        self._watch, self._progress, self._spent, self._sleep = watch, progress, spent, sleep
        self._most_tokens = lane.max_enqueued_tokens
        self.open: list[Batch] = []
        self.num_ended = 0
        self.excess = 1.0
        """By how much a bill went beyond the worst case at most; 1.0: never."""

    @property
    def enqueued_tokens(self) -> int:
        """Prompt tokens in batches that are not over, by our estimate."""
        return sum(batch.prompt_tokens for batch in self.open)

    @property
    def num_waiting(self) -> int:
        """Requests in open batches that the provider has not worked on yet, as far as it said."""
        return sum(max(0, batch.num_requests - batch.num_completed - batch.num_failed) for batch in self.open)

    def has_room(self, num_tokens: int) -> bool:
        """Whether so many prompt tokens more may be waiting."""
        return self._most_tokens is None or self.enqueued_tokens + num_tokens <= self._most_tokens

    async def begin(self) -> None:
        """Finds what earlier commands left behind and takes what is over."""
        recovered, num_dropped = await self._sender.recover()
        if recovered:
            self._progress.say(f"collect: found again {_counted(recovered)}, whose sending had been broken off")
        if num_dropped:
            self._progress.say(f"collect: {num_dropped} of the batches meant to be sent never were; sent anew")
        self.open = self._desk.ledger.batches(BatchState.SUBMITTED)
        await self.look()

    async def send(self, draft: Draft) -> None:
        """Sends a draft as soon as the provider takes another batch."""
        while not self._sender.may_begin:
            await self.pause()
            await self.look()
        self.open.append(await self._sender.send(draft))
        self._spent()
        self.tick()

    async def until(self, ready: Callable[[], bool]) -> bool:
        """Waits for open batches to end until something is so; False: none is open and it is still not so.

        Raises:
            StillWaiting: the manifest says not to wait.
        """
        while not ready():
            if not self.open:
                return False
            if not self._lane.wait:
                raise still_waiting(self.open, "; those that did not fit are sent then")
            await self.pause()
            await self.look()
        return True

    async def finish(self) -> None:
        """Waits until every batch is over and taken.

        Raises:
            StillWaiting: the manifest says not to wait, and there are some.
        """
        while self.open:
            if not self._lane.wait:
                raise still_waiting(self.open)
            await self.pause()
            await self.look()

    async def pause(self) -> None:
        """Lets the time between two looks pass."""
        left_s = self._lane.poll_s
        while left_s > 0:
            self.tick()
            await self._sleep(min(_TICK_S, left_s))
            left_s -= _TICK_S

    def tick(self, last: bool = False) -> None:
        """Shows how things stand."""
        self._watch.tick((), self.num_waiting, 0, _BINDING, last)

    async def look(self) -> None:
        """Asks about every open batch and takes those that are over.

        Raises:
            AlarmRaised, ProviderError: the first of what the batches gave reason for; all were looked at before.
        """
        problems: list[SgvError] = []
        looked_at: list[tuple[Batch, RemoteBatch]] = []
        for place, batch in enumerate(self.open):
            assert batch.batch_id is not None
            remote = await self._ask_about(batch, batch.batch_id)
            self.open[place] = await self._note(batch, remote)
            looked_at.append((self.open[place], remote))
        for batch, remote in looked_at:
            if remote.is_over:
                try:
                    await self._close(batch, remote)
                except (AlarmRaised, ProviderError) as exc:
                    problems.append(exc)
                self.open.remove(batch)
                self._spent()
        self.tick()
        try:
            self._learn_room(looked_at)
        except ProviderError as exc:
            problems.append(exc)
        if problems:
            raise problems[0]

    async def _ask_about(self, batch: Batch, batch_id: str) -> RemoteBatch:
        try:
            return await self._desk.client.look(batch_id)
        except ProviderError as exc:
            if batch.base_url == self._desk.client.base_url:
                raise
            raise ProviderError(f"{exc}. That batch was sent to {batch.base_url}: name that address again") from exc

    async def _note(self, batch: Batch, remote: RemoteBatch) -> Batch:
        """Remembers what the provider says, for those who only read the ledger."""
        counts = remote.request_counts
        completed, failed = (counts.completed, counts.failed) if counts else (batch.num_completed, batch.num_failed)
        if (remote.status, completed, failed) == (batch.status, batch.num_completed, batch.num_failed):
            return batch
        changed, written = self._desk.ledger.change(
            batch, status=remote.status, num_completed=completed, num_failed=failed
        )
        await stored(written)
        return changed

    async def _close(self, batch: Batch, remote: RemoteBatch) -> None:
        if remote.status == "failed" and remote.output_file_id is None and remote.error_file_id is None:
            await self._turned_down(batch, remote)
        else:
            taking = Taking(self._desk, batch, remote)
            try:
                await taking.take()
            finally:
                self.num_ended += taking.taken.num_ended
                self.excess = max(self.excess, taking.taken.excess)
            self._progress.say(_told(batch, remote, taking.taken))
        if batch.file_id is not None:
            await self._desk.client.forget_file(batch.file_id)

    async def _turned_down(self, batch: Batch, remote: RemoteBatch) -> None:
        """The provider did not take the file at all: nothing of it was billed."""
        codes = {problem.code for problem in remote.problems}
        more, why = _reasons(remote)
        ledger = self._desk.ledger
        tries = 1 + max(ledger.tries(ledger.waiting_in(batch)).values(), default=0)
        passes = bool(codes) and codes <= SERVERS_OWN and tries < self._desk.attempts
        await stored(ledger.end(batch, BatchState.ENDED, RowState.FAULTED if passes else RowState.UNDONE, problem=why))
        if QUEUE_FULL in codes:
            return
        if passes:
            self._progress.say(f"collect: batch {batch.batch_id} failed at the provider ({why}); it is sent again")
            return
        raise ProviderError(
            f"the provider turned down a batch of {batch.num_requests:,} requests before working on it: "
            + why.rstrip(".") + (f"; and {more:,} more problems" if more else "")
            + ". Nothing of it was billed; its pictures are sent anew by the next command"
        )

    def _learn_room(self, looked_at: Sequence[tuple[Batch, RemoteBatch]]) -> None:
        """From batches that the provider's queue did not take: what it took at the same time is what fits."""
        refused = [(batch, remote) for batch, remote in looked_at if _is_queue_full(remote)]
        if not refused:
            return
        largest = max(batch.prompt_tokens for batch, _ in refused)
        taken = sum(batch.prompt_tokens for batch, remote in looked_at if not _is_queue_full(remote))
        if len(looked_at) == 1:
            _, why = _reasons(refused[0][1])
            raise ProviderError(
                f"the provider does not take as many as {largest:,} prompt tokens in its queue ({why.rstrip('.')}). "
                "Set teacher.batch.max_enqueued_tokens to what your account may have waiting"
            )
        # Where none was taken, others fill the queue: then one batch at a time is tried.
        room = taken or largest
        self._most_tokens = room if self._most_tokens is None else min(self._most_tokens, room)
        self._progress.say(
            f"collect: the provider's queue is full; from now on at most {self._most_tokens:,} prompt tokens wait in "
            "it (set teacher.batch.max_enqueued_tokens to know that beforehand)"
        )


def _is_queue_full(remote: RemoteBatch) -> bool:
    return remote.status == "failed" and any(problem.code == QUEUE_FULL for problem in remote.problems)


def _reasons(remote: RemoteBatch) -> tuple[int, str]:
    """How many of the provider's reasons for turning a file down are left out, and the first few as one line."""
    reasons = [
        printable(redact(problem.message or problem.code or "no reason"), _PROBLEM_CHARS)
        for problem in remote.problems[:_MOST_PROBLEMS]
    ]
    return len(remote.problems) - len(reasons), "; ".join(reasons) or "it gave no reason"


def still_waiting(batches: Sequence[Batch], rest: str = "") -> StillWaiting:
    """What to say when a command ends while batches are with the provider."""
    return StillWaiting(
        f"{_counted(batches)} at the provider, which may take a day. Run the same command again later to collect them"
        f"{rest}; `sgv batches MANIFEST` shows how far they are"
    )


def _counted(batches: Sequence[Batch]) -> str:
    num_pictures = sum(batch.num_requests for batch in batches)
    return f"{len(batches):,} {'batch' if len(batches) == 1 else 'batches'} with {num_pictures:,} pictures"


def _told(batch: Batch, remote: RemoteBatch, taken: Taken) -> str:
    parts = [f"{taken.answered:,} answered"]
    parts += [f"{taken.failed:,} failed"] if taken.failed else []
    parts += [f"{taken.again:,} to be sent again"] if taken.again else []
    odd = taken.oddities()
    return f"collect: batch {batch.batch_id} {remote.status}: {', '.join(parts)}" + (f" ({odd})" if odd else "")
