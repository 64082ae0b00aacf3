"""Work in processes: bounded, and over at once when the parent is gone.

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
from types import TracebackType
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_WAITING_PER_PROCESS = 2


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers(ProcessPoolExecutor):
    """Processes that work for this one and end with it, however it ends. Use as a context manager.

    `prepare(*arguments)` is called once in each process. They never see Ctrl-C: it is the parent's to answer. Leaving
    the context by an exception ends them in the middle of what they do. As with any executor, a result whose process
    was killed raises `BrokenProcessPool`.
    """

    def __init__(self, num_processes: int, prepare: Callable[..., None] | None = None, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        theirs, self._lifeline = context.Pipe(duplex=False)
        self._theirs = theirs
        super().__init__(num_processes, context, initializer=_begin, initargs=(theirs, prepare, arguments))

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """As any executor does."""
        # Held back while processes may start, which inherit that for good.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None:
            self.shutdown(wait=True)
        self._lifeline.close()
        if kind is not None:
            self._close_pipes()
        self.shutdown(wait=True, cancel_futures=True)
        self._theirs.close()
        return None


    def _close_pipes(self) -> None:
        """Closes our copies of the workers' ends of the executor's pipes.

        A worker that ends in the middle of sending leaves half a result behind. Whoever reads it waits for the rest for
        ever, unless nobody is left who could write it; the same holds for a task that nobody reads to its end.
        """
        for queue, end in ((self._result_queue, "_writer"), (self._call_queue, "_reader")):  # type: ignore[attr-defined]
            if queue is not None:
                getattr(queue, end).close()


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
    with Workers(num_processes) as workers:
        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            waiting.append(workers.submit(work, task))
            if len(waiting) >= num_processes * _WAITING_PER_PROCESS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _begin(lifeline: Connection, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """In a worker: end as soon as the parent closes its end of the pipe or dies."""
    threading.Thread(target=_wait_for_end, args=(lifeline,), daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _wait_for_end(lifeline: Connection) -> None:
    lifeline.poll(None)  # nothing is ever sent: it becomes readable when its other end is closed
    os._exit(1)
