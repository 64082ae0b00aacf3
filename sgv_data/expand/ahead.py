"""Doing the next thing while the last one is used: an iterator that runs ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

_LOOK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class _Given(Generic[Item]):
    item: Item


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


def run_ahead(items: Iterable[Item], num_ahead: int) -> Generator[Item]:
    """The items of `items`, in order, made by a thread that is at most `num_ahead` items ahead.

    An exception in `items` is raised where its item would have come. Closing the iterator ends the thread.
    """
    waiting: queue.Queue[_Given[Item] | _Ended] = queue.Queue(num_ahead)
    left = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, waiting, left), name="run-ahead", daemon=True)
    thread.start()
    try:
        while isinstance(got := waiting.get(), _Given):
            yield got.item
        if got.error is not None:
            raise got.error
    finally:
        left.set()
        thread.join()


def _fill(items: Iterable[Item], waiting: queue.Queue[_Given[Item] | _Ended], left: threading.Event) -> None:
    ended = _Ended(None)
    try:
        for item in items:
            if not _put(waiting, _Given(item), left):
                return
    except BaseException as exc:  # noqa: BLE001 (handed to the thread that asked, which raises it)
        ended = _Ended(exc)
    _put(waiting, ended, left)


def _put(waiting: queue.Queue[_Given[Item] | _Ended], item: _Given[Item] | _Ended, left: threading.Event) -> bool:
    while not left.is_set():
        try:
            waiting.put(item, timeout=_LOOK_AGAIN_S)
        except queue.Full:
            continue
        return True
    return False
