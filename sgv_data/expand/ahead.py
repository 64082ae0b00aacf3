"""Doing the next thing while the last one is used: an iterator that runs ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

_LOOK_AGAIN_S = 0.2


class Nothing(Exception):
    """There is no item at hand now."""


@dataclass(frozen=True, slots=True)
class _Given(Generic[Item]):
    item: Item


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


class Ahead(Generic[Item]):
    """The items of `items`, in order, made by a thread that is at most `num_ahead` items ahead.

    An exception in `items` is raised where its item would have come. To be closed by whoever made it, which ends the
    thread.
    """

    def __init__(self, items: Iterable[Item], num_ahead: int) -> None:
        self._waiting: queue.Queue[_Given[Item] | _Ended] = queue.Queue(num_ahead)
        self._left = threading.Event()
        self._ended: _Ended | None = None
        self._thread = threading.Thread(target=self._fill, args=(items,), name="run-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Ahead[Item]:
        return self

    def __next__(self) -> Item:
        return self.take(wait=True)

    @property
    def num_at_hand(self) -> int:
        """How many items can be taken without waiting, about."""
        return self._waiting.qsize()

    @property
    def is_over(self) -> bool:
        """Whether the last item was taken, as far as is known."""
        return self._ended is not None

    def take(self, wait: bool) -> Item:
        """The next item.

        Raises:
            Nothing: none is there, and `wait` is not set.
            StopIteration: there are no more.
        """
        if self._ended is None:
            try:
                got = self._waiting.get(block=wait)
            except queue.Empty:
                raise Nothing from None
            if isinstance(got, _Given):
                return got.item
            self._ended = got
        if self._ended.error is not None:
            raise self._ended.error
        raise StopIteration

    def close(self) -> None:
        """Ends the thread as soon as it has made the item it is at."""
        self._left.set()
        self._thread.join()

    def _fill(self, items: Iterable[Item]) -> None:
        ended = _Ended(None)
        try:
            for item in items:
                if not self._put(_Given(item)):
                    return
        except BaseException as exc:  # noqa: BLE001 (handed to the thread that asked, which raises it)
            ended = _Ended(exc)
        self._put(ended)

    def _put(self, item: _Given[Item] | _Ended) -> bool:
        while not self._left.is_set():
            try:
                self._waiting.put(item, timeout=_LOOK_AGAIN_S)
            except queue.Full:
                continue
            return True
        return False
