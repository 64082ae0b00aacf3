"""The one writer of the reply cache: a thread that commits what waits in groups.

What is acknowledged is on the disk. While one group is being synced the next gathers, so that the cost of a sync is
shared by all that wait for it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from sgv_data.errors import RunFolderError, SgvError, disk_error

_MOST_PER_COMMIT = 512

Statement = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class _Job:
    statements: Sequence[Statement]
    done: Future[None] = field(default_factory=Future)


def cache_error(path: Path, exc: Exception) -> SgvError:
    """What an error of SQLite or zlib means to the user."""
    return disk_error(exc) or RunFolderError(
        f"{path}: the reply cache cannot be read or written ({exc}). It holds paid replies: keep a copy, then restore "
        "it from a backup or move it away to start anew"
    )


class CacheWriter:
    """Owns the only connection that writes."""

    def __init__(self, path: Path, connect: Callable[[Path], sqlite3.Connection]) -> None:
        self._path = path
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._connection = connect(path)
        self._thread = threading.Thread(target=self._work, name="reply-cache", daemon=True)
        self._thread.start()

    def submit(self, statements: Sequence[Statement]) -> Future[None]:
        """Queues statements that belong in one transaction; the future ends when they are on the disk."""
        job = _Job(statements)
        # From here on it cannot be cancelled: who stops waiting does not stop the write.
        job.done.set_running_or_notify_cancel()
        self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Writes what is queued and closes."""
        self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            group, ending = [first], False
            while not self._jobs.empty() and len(group) < _MOST_PER_COMMIT:
                job = self._jobs.get()
                if job is None:
                    ending = True
                    break
                group.append(job)
            self._commit(group)
            if ending:
                return

    def _commit(self, group: list[_Job]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in group:
                for sql, values in job.statements:
                    self._connection.execute(sql, values)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, ValueError, OverflowError) as exc:
            error = cache_error(self._path, exc)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for job in group:
                job.done.set_exception(error)
            return
        for job in group:
            job.done.set_result(None)
