"""What is still to be sent: fresh items in their order, and those that come back, at once or after a pause.

An item that waits for its next try lies here: it holds no connection and no task. One reader, any number of writers,
all of one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Bell:
    """Wakes the one who waits for something to change, or for a time to come."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Something changed."""
        self._rung.set()

    async def wait(self, timeout_s: float = math.inf) -> None:
        """Returns at the next ring, one since the last wait included, or after `timeout_s`."""
        timer = None
        if timeout_s < math.inf:
            timer = asyncio.get_running_loop().call_later(timeout_s, self._rung.set)
        try:
            await self._rung.wait()
            self._rung.clear()
        finally:
            if timer is not None:
                timer.cancel()


class Backlog(Generic[Item]):
    """Bounded: `put` waits while `most_fresh` items lie here, and fresh ones are held back while `most_pausing` that
    came back wait for their time."""

    def __init__(
        self, most_fresh: int, most_pausing: int, bell: Bell, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_fresh, self._most_pausing = most_fresh, most_pausing
        self._bell, self._clock = bell, clock
        self._back: deque[Item] = deque()
        self._fresh: deque[Item] = deque()
        self._pausing: list[tuple[float, int, Item]] = []
        self._order = count()
        self._num_taken = 0
        self._is_complete = False
        self._room = asyncio.Event()
        self._room.set()

    @property
    def num_pausing(self) -> int:
        """How many wait for their next try."""
        return len(self._pausing) + len(self._back)

    @property
    def num_fresh(self) -> int:
        """How many were never taken."""
        return len(self._fresh)

    async def put(self, item: Item) -> None:
        """Adds a fresh item when there is room."""
        while len(self._fresh) >= self._most_fresh:
            self._room.clear()
            await self._room.wait()
        self._fresh.append(item)
        self._bell.ring()

    def complete(self) -> None:
        """No more fresh ones will come."""
        self._is_complete = True
        self._bell.ring()

    def put_back(self, item: Item, pause_s: float = 0.0) -> None:
        """An item that was taken is to be tried again, after the pause."""
        self._num_taken -= 1
        if pause_s > 0:
            heapq.heappush(self._pausing, (self._clock() + pause_s, next(self._order), item))
        else:
            self._back.append(item)
        self._bell.ring()

    def ended(self) -> None:
        """An item that was taken has come to its end."""
        self._num_taken -= 1
        self._bell.ring()

    async def take(self) -> Item | None:
        """The next item; None when all have come to their end."""
        while True:
            item, wait_s = self._next()
            if item is not None:
                self._num_taken += 1
                return item
            if self._is_complete and not (self._fresh or self._pausing or self._num_taken):
                return None
            await self._bell.wait(wait_s)

    def _next(self) -> tuple[Item | None, float]:
        """An item, or how long until one that pauses is due."""
        if self._back:
            return self._back.popleft(), 0.0
        wait_s = self._pausing[0][0] - self._clock() if self._pausing else math.inf
        if wait_s <= 0:
            return heapq.heappop(self._pausing)[2], 0.0
        if self._fresh and len(self._pausing) < self._most_pausing:
            item = self._fresh.popleft()
            self._room.set()
            return item, 0.0
        return None, wait_s
