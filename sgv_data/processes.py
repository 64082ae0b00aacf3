"""Work in processes: bounded, in order, and over at once when the parent is gone.

Processes are spawned, not forked: a parent that has loaded torch has threads. An orphan of a killed `sgv` would go on
writing files that the next `sgv` writes too, so every worker ends as soon as its parent does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_WAITING_PER_PROCESS = 2


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def in_order(work: Callable[[Task], Result], tasks: Iterable[Task], num_processes: int) -> Iterator[Result]:
    """`work(task)` for each task, in the order of the tasks; at most a few tasks are under way or waiting.

    `work` must be a module's own function. With one process everything happens here. If the consumer stops, by an
    exception or a kill, the processes end without finishing what they do.
    """
    if num_processes <= 1:
        yield from map(work, tasks)
    else:
        yield from _in_processes(work, tasks, num_processes)


def in_own_process(work: Callable[[Task], Result], task: Task) -> Result:
    """`work(task)` in a fresh process, whose imports and environment are its own."""
    (result,) = _in_processes(work, [task], 1)
    return result


def _in_processes(work: Callable[[Task], Result], tasks: Iterable[Task], num_processes: int) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    our_end, their_end = context.Pipe()
    with our_end, their_end:
        pool = ProcessPoolExecutor(num_processes, context, initializer=_end_with_parent, initargs=(their_end,))
        try:
            yield from _windowed(pool, work, tasks, num_processes * _WAITING_PER_PROCESS)
        except BaseException:
            our_end.close()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()


def _windowed(
    pool: ProcessPoolExecutor, work: Callable[[Task], Result], tasks: Iterable[Task], window: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for task in tasks:
        waiting.append(pool.submit(work, task))
        if len(waiting) >= window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _end_with_parent(parent: Connection) -> None:
    """In a worker: leave Ctrl-C to the parent, and end as soon as the parent closes its end or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_end, args=(parent,), daemon=True).start()


def _wait_for_end(parent: Connection) -> None:
    parent.poll(None)
    os._exit(1)
