"""Planned tars written by a few threads, while the plan of the next ones is still being made.

Threads, not processes: reading, hashing and writing let other threads run meanwhile, and nothing has to be started or
imported first. Each tar is written by one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from sgv_data.shard.plan import PlannedShard
from sgv_data.shard.write import ShardDone, ShardTask, write_shard


class _Stopped(Exception):
    """Nobody waits for this tar any more."""


class ShardWriters:
    """Writes tars. A context manager: left by an exception, the threads end after the sample they are at."""

    def __init__(self, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="shard")
        self._stop = threading.Event()
        self._under_way: dict[str, Future[ShardDone]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=kind is not None)

    def write(self, task: ShardTask) -> None:
        """This tar is to be written. Returns at once."""
        self._under_way[task.shard.name] = self._threads.submit(write_shard, task, self._go_on)

    def results(self, shards: Iterable[PlannedShard]) -> Iterator[ShardDone]:
        """What became of tars that were handed to `write`, in the order asked for; raises what their writing raised."""
        for shard in shards:
            yield self._under_way.pop(shard.name).result()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped
