"""Engines that answer many pictures at once from an event loop: the loop in its thread, and what is under way on it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import wait
from typing import Any, TypeVar

from sgv_data.expand.engine import Answer, Load, Picture

Ask = Callable[[Picture], Awaitable[Answer]]
Result = TypeVar("Result")


class LoopThread:
    """An event loop in a thread of its own. Use as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True)

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine there and waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def answers(self, pictures: Iterator[Picture | None], ask: Ask, most: int, load: Load) -> Generator[Answer]:
        """Asks about all pictures, at most `most` at once; answers come as they are there.

        Raises:
            Exception: what `ask` raised first; the others are let go.
        """
        done: queue.Queue[Answer | BaseException | None] = queue.Queue()
        asking = asyncio.run_coroutine_threadsafe(_ask_all(pictures, ask, most, load, done), self._loop)
        try:
            while (got := done.get()) is not None:
                if isinstance(got, BaseException):
                    raise got
                yield got
        finally:
            asking.cancel()
            wait([asking])


async def _ask_all(
    pictures: Iterator[Picture | None], ask: Ask, most: int, load: Load,
    done: queue.Queue[Answer | BaseException | None],
) -> None:  # fmt: skip
    room = asyncio.Semaphore(most)
    under_way: set[asyncio.Task[None]] = set()

    async def one(picture: Picture) -> None:
        try:
            done.put(await ask(picture))
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as group:
            while True:
                started = time.monotonic()
                await room.acquire()
                had_room = time.monotonic()
                load.model_s += had_room - started
                found, picture = await asyncio.to_thread(_next, pictures)
                if len(under_way) < most / 2:
                    load.waiting_s += time.monotonic() - had_room
                if not found:
                    break
                if picture is None:
                    room.release()
                    continue
                task = group.create_task(one(picture))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                load.peak_batch = max(load.peak_batch, len(under_way))
            ended = time.monotonic()
        load.model_s += time.monotonic() - ended
    except BaseExceptionGroup as errors:
        done.put(_first(errors))
    else:
        done.put(None)


def _next(pictures: Iterator[Picture | None]) -> tuple[bool, Picture | None]:
    """Whether there is one more, and it. (StopIteration cannot pass through a future.)"""
    for picture in pictures:
        return True, picture
    return False, None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
