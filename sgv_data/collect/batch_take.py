"""Taking what a batch has brought: every result into the cache, by its key, once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from sgv_data.api.batch_ledger import Batch, BatchState, Ledger, RowState
from sgv_data.api.batch_words import RemoteBatch
from sgv_data.api.batches import BatchClient
from sgv_data.api.cache import ReplyCache, StoredFailure, StoredReply, stored
from sgv_data.api.health import SAME_CONFIG_FAULTS
from sgv_data.api.outcomes import EndRow, Fault, FaultKind, Retry, Stop, Wait, classify
from sgv_data.api.prices import TokenPrice
from sgv_data.api.reply import ParsedReply
from sgv_data.collect.batch_lines import Answer, ResultLine, Undone, read_lines
from sgv_data.errors import AlarmRaised, ProviderError
from sgv_data.records import FailureClass, Lane, Outcome
from sgv_data.run_folder import utc_now

_LINES_AT_ONCE = 200


class Told(Protocol):
    """Who is told what happens (`watch.Watch`)."""

    def ended(self, outcome: Outcome, failure: FailureClass | None, text: str, usage_tokens: int) -> None: ...

    def faulted(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a picture ended, for the watch."""

    outcome: Outcome
    failure: FailureClass | None
    text: str
    usage_tokens: int = 0


@dataclass(slots=True)
class Taken:
    """What one batch brought. `again`: requests that will be sent again."""

    answered: int = 0
    failed: int = 0
    again: int = 0
    twice: int = 0
    unknown: int = 0
    unreadable: int = 0
    missing: int = 0
    excess: float = 1.0
    """By how much a bill went beyond the worst case at most; 1.0: never."""

    @property
    def num_ended(self) -> int:
        """How many pictures came to their end."""
        return self.answered + self.failed

    def oddities(self) -> str:
        """What was wrong with the results, or nothing."""
        told = {
            "results of requests that are not in it": self.unknown,
            "results that came twice": self.twice,
            "lines that cannot be read": self.unreadable,
            "requests without a result": self.missing,
        }
        return ", ".join(f"{number:,} {what}" for what, number in told.items() if number)


@dataclass(frozen=True, slots=True)
class Desk:
    """What is needed to take results; the same for every batch of a run. `folder`: for files that have no name."""

    client: BatchClient
    cache: ReplyCache
    ledger: Ledger
    session: str
    price: Callable[[str], TokenPrice | None]
    attempts: int
    watch: Told
    folder: Path


class Taking:
    """Takes the results of one batch that is over. May be broken off anywhere and done again from the start."""

    def __init__(self, desk: Desk, batch: Batch, remote: RemoteBatch) -> None:
        self._desk, self._batch, self._remote = desk, batch, remote
        self._held: dict[str, tuple[Fault, float, StoredFailure]] = {}
        self._writes: list[Future[None]] = []
        self._endings: list[_Ending] = []
        self._alarm: AlarmRaised | None = None
        self._stop: str | None = None
        self.taken = Taken()

    async def take(self) -> Taken:
        """Takes both files, then ends the batch: what has no result is free to be sent again.

        Raises:
            AlarmRaised: the answers look wrong; all of them were taken first.
            ProviderError: the results say that no request will work; what was answered was taken first.
        """
        for file_id in (self._remote.output_file_id, self._remote.error_file_id):
            if file_id is not None:
                with tempfile.TemporaryFile(dir=self._desk.folder) as file:
                    if await self._desk.client.download(file_id, file):
                        file.seek(0)
                        await self._take_lines(read_lines(file))
        await self._release_held()
        kept_usd = await self._take_missing()
        await stored(self._desk.ledger.end(self._batch, BatchState.ENDED, RowState.UNDONE, kept_usd))
        if self._stop is not None:
            raise ProviderError(self._stop)
        if self._alarm is not None:
            raise self._alarm
        return self.taken

    async def _take_lines(self, lines: Iterator[ResultLine | None]) -> None:
        while part := list(islice(lines, _LINES_AT_ONCE)):
            readable = [line for line in part if line is not None]
            self.taken.unreadable += len(part) - len(readable)
            rows = self._desk.ledger.rows(self._batch, {line.key for line in readable})
            tries = self._desk.ledger.tries(rows)
            seen = set(self._held)
            for line in readable:
                state, worst_usd = rows.get(line.key, (None, 0.0))
                if state is None:
                    self.taken.unknown += 1
                elif state is not RowState.WAITING or line.key in seen:
                    self.taken.twice += 1
                else:
                    seen.add(line.key)
                    self._settle(line, worst_usd, tries.get(line.key, 0) + 1)
            await self._written()

    def _settle(self, line: ResultLine, worst_usd: float, tries: int) -> None:
        """Queues what one result changes; it is on the disk after `_written`."""
        match line.result:
            case Answer() as answer:
                self._keep(line.key, answer, worst_usd, tries)
            case Undone():
                self._change(line.key, RowState.UNDONE, worst_usd)
            case Fault() as fault:
                self._fault(line.key, fault, worst_usd, tries)

    def _keep(self, key: str, answer: Answer, worst_usd: float, tries: int) -> None:
        """Stores an answer, the end of its row and the money given back in one transaction."""
        parsed, batch = answer.parsed, self._batch
        cost_usd = self._cost_usd(parsed, worst_usd)
        if cost_usd is not None and worst_usd > 0:
            self.taken.excess = max(self.taken.excess, cost_usd / worst_usd)
        reply = StoredReply(
            key, answer.body, batch.model, answer.request_id, tries, 0.0, utc_now(), cost_usd, lane=Lane.BATCH
        )
        state = RowState.ANSWERED if parsed.finished else RowState.FAULTED
        also = self._desk.ledger.settling(batch, key, state, worst_usd)
        self._writes.append(self._desk.cache.put(reply, parsed, also=also))
        if not parsed.finished:
            # Its money is spent and its row settled; what is left is to end the picture, or not.
            self._fault(key, Fault(FaultKind.LOST, parsed.problem or "", 200), 0.0, tries)
            return
        self.taken.answered += 1
        failure = FailureClass.BAD_REPLY if parsed.outcome is Outcome.FAILED else None
        told = parsed.text or parsed.problem or ""
        self._endings.append(_Ending(parsed.outcome, failure, told, parsed.prompt_tokens + parsed.completion_tokens))

    def _cost_usd(self, parsed: ParsedReply, worst_usd: float) -> float | None:
        """What an answer cost; without a word about usage, the worst."""
        price = self._desk.price(self._batch.model)
        if price is None:
            return None
        return price.cost_usd(parsed.prompt_tokens, parsed.completion_tokens) if parsed.has_usage else worst_usd

    def _fault(self, key: str, fault: Fault, worst_usd: float, tries: int) -> None:
        self._desk.watch.faulted(fault.name)
        match classify(fault):
            case Stop() as stop:
                self._stop = self._stop or stop.message
                self._change(key, RowState.UNDONE, worst_usd)
            case EndRow() as ended:
                self._held[key] = fault, worst_usd, self._failure(key, ended, tries)
            case Retry() as retry if tries >= self._desk.attempts:
                self._fail(self._failure(key, retry, tries), worst_usd)
            case Wait() as wait if tries >= self._desk.attempts:
                busy = Retry(FailureClass.SERVER_ERROR, wait.detail)
                self._fail(self._failure(key, busy, tries), worst_usd)
            case Retry() | Wait():
                self._change(key, RowState.FAULTED, worst_usd)

    def _failure(self, key: str, decision: Retry | EndRow, tries: int) -> StoredFailure:
        return StoredFailure(key, decision.failure, decision.detail, tries, utc_now())

    def _fail(self, failure: StoredFailure, worst_usd: float) -> None:
        """Ends a picture with its failure, which is written before the row is settled."""
        self._writes.append(self._desk.cache.put_failure(self._desk.session, failure))
        self._settle_row(failure.subject, RowState.FAILED, worst_usd)
        self.taken.failed += 1
        self._endings.append(_Ending(Outcome.FAILED, failure.failure, failure.detail))

    def _change(self, key: str, state: RowState, worst_usd: float) -> None:
        """Frees a request, so that it will be sent again."""
        self._settle_row(key, state, worst_usd)
        self.taken.again += 1

    def _settle_row(self, key: str, state: RowState, worst_usd: float) -> None:
        ledger = self._desk.ledger
        self._writes.append(ledger.settle(ledger.settling(self._batch, key, state, worst_usd)))

    async def _release_held(self) -> None:
        """Ends the pictures that were turned down. If all were, and for one reason, the settings are wrong instead."""
        names = {fault.name for fault, _, _ in self._held.values()}
        bad_settings = (
            len(self._held) >= SAME_CONFIG_FAULTS
            and len(names) == 1
            and all(failure.failure is FailureClass.BAD_REQUEST for _, _, failure in self._held.values())
            and not self._desk.ledger.num_in_state(self._batch, RowState.ANSWERED)
        )
        for key, (_, worst_usd, failure) in self._held.items():
            if bad_settings:
                self._change(key, RowState.UNDONE, worst_usd)
            else:
                self._fail(failure, worst_usd)
        if bad_settings:
            detail = next(iter(self._held.values()))[2].detail
            self._stop = self._stop or (
                f"the provider turned down every request of a batch ({names.pop()}): {detail}. Check teacher.model, "
                "teacher.token_limit_name, teacher.temperature and teacher.max_completion_tokens"
            )
        await self._written()

    async def _take_missing(self) -> float:
        """Settles what a completed batch said nothing about; returns what of its money may be spent all the same."""
        missing = self._desk.ledger.waiting_in(self._batch)
        if self._remote.status != "completed" or not missing:
            return 0.0
        self.taken.missing = len(missing)
        tries = self._desk.ledger.tries(missing)
        counts = self._remote.request_counts
        answered = self._desk.ledger.num_in_state(self._batch, RowState.ANSWERED)
        num_billed = len(missing) if counts is None else min(len(missing), max(0, counts.completed - answered))
        nothing_came = Fault(FaultKind.LOST, "its batch ended without a result")
        for key, worst_usd in missing.items():
            self._fault(key, nothing_came, worst_usd, tries.get(key, 0) + 1)
        await self._written()
        return sum(sorted(missing.values(), reverse=True)[:num_billed])

    async def _written(self) -> None:
        """Waits until all that is queued is on the disk, then tells of it."""
        writes, self._writes = self._writes, []
        for written in writes:
            await stored(written)
        endings, self._endings = self._endings, []
        for ending in endings:
            try:
                self._desk.watch.ended(ending.outcome, ending.failure, ending.text, ending.usage_tokens)
            except AlarmRaised as alarm:
                # All of it is paid for: it is taken first.
                self._alarm = alarm
