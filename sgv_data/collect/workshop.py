"""Worker processes that prepare pictures ahead of the sending, so that the network never waits for Pillow."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType

from sgv_data.collect.prepare import Prepared, Unusable, prepare_batch
from sgv_data.errors import SgvError
from sgv_data.manifest import Manifest
from sgv_data.records import ImageRow

FEW_PICTURES = 64
_MOST_PROCESSES = 8


class Workshop:
    """Prepares batches of pictures; for a few of them one thread does. Use as a context manager.

    The processes end with this one, however it ends: they watch a pipe whose other end only it holds.
    """

    def __init__(self, manifest: Manifest, num_pictures: int) -> None:
        self._manifest_json = manifest.model_dump_json()
        self._ours: Connection | None = None
        self.num_workers = 1
        self._pool: Executor
        if num_pictures <= FEW_PICTURES:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="prepare")
            return
        self.num_workers = min(os.cpu_count() or 1, _MOST_PROCESSES)
        # Not `fork`: this process has threads. Processes start when the first batch comes.
        context = get_context("spawn")
        theirs, self._ours = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(self.num_workers, context, initializer=_watch, initargs=(theirs,))

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ours is not None:
            if kind is None:
                self._pool.shutdown(wait=True)
            self._ours.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def prepare(self, rows: list[ImageRow]) -> asyncio.Task[list[Prepared | Unusable]]:
        """Starts preparing; the result has one entry per row, in order, or is an `SgvError` if a process died."""
        started = asyncio.create_task(self._prepared(rows))
        # When the run stops, nobody asks for the results still under way.
        started.add_done_callback(lambda done: done.cancelled() or done.exception())
        return started

    async def _prepared(self, rows: list[ImageRow]) -> list[Prepared | Unusable]:
        loop = asyncio.get_running_loop()
        try:
            with _ctrl_c_held_back():
                started = loop.run_in_executor(self._pool, prepare_batch, self._manifest_json, rows)
            return await started
        except BrokenExecutor as exc:
            raise SgvError(
                f"a process that prepares pictures died at {rows[0].image_id} or one of the next {len(rows) - 1}, "
                "perhaps for want of memory; everything answered is stored, run the same command again"
            ) from exc


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C: it is the parent's to answer."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(lifeline: Connection) -> None:
    """In a worker: ends at once when the parent lets go of the pipe or dies."""

    def wait() -> None:
        # Nothing is ever sent: the pipe becomes readable when its other end is closed.
        lifeline.poll(None)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
