"""What an engine is fed: pictures from the decoding processes, and those that are asked about once more.

The engine's side takes from a thread of its own. It may never wait for pictures that only its own answers can bring:
before it would, it is told so by None.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from sgv_data.expand.engine import Picture


class Feed:
    """Iterator over pictures; `opened` brings the fresh ones. Ends when all of them, and all that were put back, have
    been settled."""

    def __init__(self, opened: Iterator[Picture]) -> None:
        self._opened = opened
        self._again: deque[Picture] = deque()
        self._changed = threading.Condition()
        self._num_under_way = 0
        self._is_dry = self._has_said = self._is_closed = False

    def __iter__(self) -> Iterator[Picture | None]:
        return self

    def __next__(self) -> Picture | None:
        with self._changed:
            if self._again:
                self._has_said = False
                return self._again.popleft()
        if not self._is_dry:
            fresh = next(self._opened, None)
            with self._changed:
                if fresh is not None:
                    self._num_under_way += 1
                    return fresh
                self._is_dry = True
        return self._after_the_last()

    def _after_the_last(self) -> Picture | None:
        with self._changed:
            if not self._has_said and self._num_under_way:
                self._has_said = True
                return None
            while not self._again and self._num_under_way and not self._is_closed:
                self._changed.wait()
            if not self._again:
                raise StopIteration
            self._has_said = False
            return self._again.popleft()

    def put_back(self, picture: Picture) -> None:
        """A picture that was answered is to be asked about once more."""
        with self._changed:
            self._again.append(picture)
            self._changed.notify_all()

    def settle(self) -> None:
        """A picture has its last answer."""
        with self._changed:
            self._num_under_way -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody settles anything any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
