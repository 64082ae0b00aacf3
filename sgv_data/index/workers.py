"""A bounded stream of work over worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import TypeVar

from sgv_data.errors import SgvError

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 32
FEW = 64
"""Up to so many items, starting processes would take longer than the work."""

_CHUNKS_AHEAD = 4


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_chunks(
    work: Callable[[list[Item]], list[Result]], items: Iterable[Item], num_workers: int
) -> Iterator[list[Result]]:
    """`work` done on all items, `CHUNK` at a time, in any order; with few items or one worker in this process.

    `work` must be picklable. At most a few chunks per worker wait at once. No process outlives the iterator, nor this
    process, however it ends.

    Raises:
        SgvError: if a worker process is killed.
    """
    stream = iter(items)
    first = list(islice(stream, FEW + 1))
    chunks = _chunked(chain(first, stream))
    if num_workers == 1 or len(first) <= FEW:
        yield from map(work, chunks)
    else:
        yield from _in_processes(work, chunks, num_workers)


def _chunked(items: Iterator[Item]) -> Iterator[list[Item]]:
    while chunk := list(islice(items, CHUNK)):
        yield chunk


def _in_processes(
    work: Callable[[list[Item]], list[Result]], chunks: Iterator[list[Item]], num_workers: int
) -> Iterator[list[Result]]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_follow_parent)
    waiting: set[Future[list[Result]]] = set()
    try:
        for chunk in chunks:
            waiting.add(_submit(pool, work, chunk))
            if len(waiting) >= _CHUNKS_AHEAD * num_workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as exc:
        raise SgvError(
            "a worker process was killed while it looked at pictures, perhaps for lack of memory; run the same command "
            "again, with a smaller pictures.max_pixels if it happens again"
        ) from exc
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(
    pool: ProcessPoolExecutor, work: Callable[[list[Item]], list[Result]], chunk: list[Item]
) -> Future[list[Result]]:
    """Submits with Ctrl-C held back: processes started meanwhile inherit that for good and leave it to this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(work, chunk)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_parent() -> None:
    """Ends this worker when its parent is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
