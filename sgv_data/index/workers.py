"""A stream of work in chunks, over worker processes where that pays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import TypeVar

from sgv_data.errors import SgvError
from sgv_data.processes import in_order

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 32
FEW = 64
"""Up to so many items, starting processes would take longer than the work."""


def in_chunks(
    work: Callable[[list[Item]], list[Result]], items: Iterable[Item], num_workers: int
) -> Iterator[list[Result]]:
    """`work` done on all items, `CHUNK` at a time; with few items or one worker in this process.

    `work` must be picklable. No process outlives the iterator, nor this process, however it ends.

    Raises:
        SgvError: if a worker process is killed.
    """
    stream = iter(items)
    first = list(islice(stream, FEW + 1))
    try:
        yield from in_order(work, _chunked(chain(first, stream)), 1 if len(first) <= FEW else num_workers)
    except BrokenProcessPool as exc:
        raise SgvError(
            "a worker process was killed while it looked at pictures, perhaps for lack of memory; run the same command "
            "again, with a smaller pictures.max_pixels if it happens again"
        ) from exc


def _chunked(items: Iterator[Item]) -> Iterator[list[Item]]:
    while chunk := list(islice(items, CHUNK)):
        yield chunk
