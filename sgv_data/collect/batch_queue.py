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

    def tick(self) -> None:
        """Shows how things stand."""
        self._watch.tick((), self.num_waiting, 0, _BINDING)

    async def look(self) -> None:
        """Asks about every open batch and takes those that are over.

        Raises:
            AlarmRaised, ProviderError: the first of what the batches gave reason for; all were looked at before.
        """
        problems: list[SgvError] = []
        for batch in list(self.open):
            assert batch.batch_id is not None
            remote = await self._ask_about(batch, batch.batch_id)
            looked_at = await self._note(batch, remote)
            self.open[self.open.index(batch)] = looked_at
            if remote.is_over:
                try:
                    await self._close(looked_at, remote)
                except (AlarmRaised, ProviderError) as exc:
                    problems.append(exc)
                self.open.remove(looked_at)
                self._spent()
        self.tick()
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
        reasons = [
            printable(redact(problem.message or problem.code or "no reason"), _PROBLEM_CHARS)
            for problem in remote.problems[:_MOST_PROBLEMS]
        ]
        why = "; ".join(reasons) or "it gave no reason"
        ledger = self._desk.ledger
        tries = 1 + max(ledger.tries(ledger.waiting_in(batch)).values(), default=0)
        passes = bool(codes) and codes <= SERVERS_OWN and tries < self._desk.attempts
        await stored(ledger.end(batch, BatchState.ENDED, RowState.FAULTED if passes else RowState.UNDONE, problem=why))
        if QUEUE_FULL in codes:
            self._learn_room(batch, why)
            return
        if passes:
            self._progress.say(f"collect: batch {batch.batch_id} failed at the provider ({why}); it is sent again")
            return
        more = len(remote.problems) - len(reasons)
        raise ProviderError(
            f"the provider turned down a batch of {batch.num_requests:,} requests before working on it: "
            + why.rstrip(".") + (f"; and {more:,} more problems" if more else "")
            + ". Nothing of it was billed; its pictures are sent anew by the next command"
        )

    def _learn_room(self, batch: Batch, why: str) -> None:
        others = self.enqueued_tokens - batch.prompt_tokens
        if not others:
            raise ProviderError(
                f"the provider does not take as many as {batch.prompt_tokens:,} prompt tokens in its queue "
                f"({why.rstrip('.')}). Set teacher.batch.max_enqueued_tokens to what your account may have waiting"
            )
        self._most_tokens = others if self._most_tokens is None else min(self._most_tokens, others)
        self._progress.say(
            f"collect: the provider's queue is full; from now on at most {self._most_tokens:,} prompt tokens wait in "
            "it (set teacher.batch.max_enqueued_tokens to know that beforehand)"
        )


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
