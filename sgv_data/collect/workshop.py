"""Worker processes that prepare pictures ahead of the sending, so that the network never waits for Pillow."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

from sgv_data.collect.prepare import Prepared, Unusable, filled, get_ready, prepare_batch
from sgv_data.errors import SgvError
from sgv_data.manifest import Manifest
from sgv_data.processes import Workers, usable_cores
from sgv_data.records import ImageRow

FEW_PICTURES = 64
_MOST_PROCESSES = 8
_BATCHES_BEFORE_STARTING = 2


class Workshop:
    """Prepares batches of pictures: the first ones in a thread, since processes take a second to start, the others in
    processes once these have started. For a few pictures there are none. Use as a context manager.
    """

    def __init__(self, manifest: Manifest, num_pictures: int) -> None:
        self._manifest_json = manifest.model_dump_json()
        has_workers = num_pictures > FEW_PICTURES
        self.num_workers = min(usable_cores(), _MOST_PROCESSES) if has_workers else 1
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._workers = Workers(self.num_workers) if has_workers else None
        self._starting: Future[None] | None = None
        self._num_batches = 0
        self._stack = ExitStack()
        for pool in (self._thread, self._workers):
            if pool is not None:
                self._stack.push(pool)

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._starting is not None and not self._starting.done():
            # A process that is only starting does not see yet that it is to end, and loads for a second first.
            for process in list((self._workers._processes if self._workers else None) or {}):
                os.kill(process, signal.SIGKILL)
        self._stack.__exit__(kind, error, trace)

    def prepare(self, rows: list[ImageRow]) -> asyncio.Task[list[Prepared | Unusable]]:
        """Starts preparing; the result has one entry per row, in order, or is an `SgvError` if a process died."""
        started = asyncio.create_task(self._prepared(rows))
        # When the run stops, nobody asks for the results still under way.
        started.add_done_callback(lambda done: done.cancelled() or done.exception())
        return started

    async def _prepared(self, rows: list[ImageRow]) -> list[Prepared | Unusable]:
        loop = asyncio.get_running_loop()
        try:
            pictures = await loop.run_in_executor(self._pool(), prepare_batch, self._manifest_json, rows)
        except BrokenExecutor as exc:
            raise SgvError(
                f"a process that prepares pictures died at {rows[0].image_id} or one of the next {len(rows) - 1}, "
                "perhaps for want of memory; everything answered is stored, run the same command again"
            ) from exc
        # The file is in the system's memory since it was hashed: reading it here blocks for tens of microseconds, less
        # than taking its bytes through a pipe (100 KB JPEGs on 2 cores: 3,900 per second instead of 2,900).
        return [filled(picture) for picture in pictures]

    def _pool(self) -> Executor:
        """Who prepares the next batch."""
        if self._workers is None:
            return self._thread
        self._num_batches += 1
        if self._starting is None and self._num_batches > _BATCHES_BEFORE_STARTING:
            for _ in range(self.num_workers):
                self._starting = self._workers.submit(get_ready, self._manifest_json)
        return self._workers if self._starting is not None and self._starting.done() else self._thread
