"""The one writer of the reply cache: a thread that commits what waits in groups.

What is acknowledged is on the disk. While one group is being synced the next gathers, so that the cost of a sync is
shared by all that wait for it. On a full disk nothing is dropped: the reserve is given up, and what waits is kept in
memory and tried again for a while.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from sgv_data.api.cache_errors import cache_error, is_no_space, may_pass
from sgv_data.api.cache_file import Reserve
from sgv_data.errors import SgvError

_MOST_PER_COMMIT = 512
PATIENCE_S = 90.0
_PAUSE_S = 0.5

Statement = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class _Job:
    statements: Sequence[Statement]
    done: Future[None] = field(default_factory=Future)


class CacheWriter:
    """Owns the only connection of this process that writes."""

    def __init__(
        self,
        path: Path,
        connect: Callable[[Path], sqlite3.Connection],
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path, self._patience_s, self._clock, self._sleep = path, patience_s, clock, sleep
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._reserve = Reserve(path)
        self._connection = connect(path)
        self._reserve.keep()
        self._closed = False
        self._given_up = False
        self._latest = math.inf
        self._lost: SgvError | None = None
        self._thread = threading.Thread(target=self._work, name="reply-cache", daemon=True)
        self._thread.start()

    def submit(self, statements: Sequence[Statement]) -> Future[None]:
        """Queues statements that belong in one transaction; the future ends when they are on the disk."""
        job = _Job(statements)
        # From here on it cannot be cancelled: who stops waiting does not stop the write.
        job.done.set_running_or_notify_cancel()
        self._jobs.put(job)
        return job.done

    def close(self, patience_s: float = math.inf) -> None:
        """Writes what is queued and closes. Once is enough; more does no harm.

        With `patience_s` a disk that does not take it is waited for no longer than that.

        Raises:
            SgvError: of a hurried close, if something could not be written.
        """
        if self._closed:
            return
        self._closed = True
        self._latest = self._clock() + patience_s
        self._jobs.put(None)
        self._thread.join()
        self._connection.close()
        self._reserve.keep()
        if self._lost is not None:
            raise self._lost

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            group, ending = [first], False
            while not self._jobs.empty() and len(group) < _MOST_PER_COMMIT:
                job = self._jobs.get()
                if job is None:
                    ending = True
                    break
                group.append(job)
            self._settle(group)
            if ending:
                return

    def _settle(self, group: list[_Job]) -> None:
        """Ends every job of a group. Jobs do not share a fate: where one cannot be written the others are."""
        error = self._commit(group)
        if error is None:
            for job in group:
                job.done.set_result(None)
        elif len(group) == 1 or may_pass(error):
            self._lose(error)
            for job in group:
                job.done.set_exception(cache_error(self._path, error))
        else:
            for job in group:
                self._settle([job])

    def _lose(self, error: Exception) -> None:
        """Nobody may be left to wait for what a hurried close gives up."""
        if math.isfinite(self._latest):
            self._lost = cache_error(self._path, error)

    def _commit(self, group: list[_Job]) -> Exception | None:
        """Writes a group in one transaction, trying again while that can help. None: it is on the disk."""
        give_up_at = self._clock() + self._patience_s
        while (error := self._try(group)) is not None:
            if not may_pass(error) or self._given_up:
                return error
            if is_no_space(error):
                self._reserve.give_up()
            if self._clock() >= min(give_up_at, self._latest):
                # Those that wait behind this group have waited as long; they get one try each.
                self._given_up = True
                return error
            self._sleep(max(0.0, min(_PAUSE_S, self._latest - self._clock())) if self._closed else _PAUSE_S)
        self._given_up = False
        return None

    def _try(self, group: list[_Job]) -> Exception | None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in group:
                for sql, values in job.statements:
                    self._connection.execute(sql, values)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, ValueError, OverflowError) as exc:
            self._roll_back()
            return exc
        return None

    def _roll_back(self) -> None:
        if not self._connection.in_transaction:
            return
        # A disk in trouble may fail this too; SQLite then rolls back by itself at the next statement.
        with suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")
