"""Pictures read and decoded ahead of the model, in worker processes that never import torch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from types import TracebackType

import numpy as np

from sgv_data.captioner.picture import PictureOpener, Pixels, pixels_sha256
from sgv_data.errors import SgvError
from sgv_data.images.decode import BadPicture
from sgv_data.processes import Workers
from sgv_data.records import FailureClass, ImageRow
from sgv_data.sources.reader import PictureChanged

_PICTURES_PER_TASK = 8


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture of the index, decoded (`pixels` and the hash of them), or the reason why not, and what it took."""

    pixels: Pixels | None
    sent_sha256: str
    failure: FailureClass | None
    detail: str | None
    read_s: float = 0.0
    decode_s: float = 0.0


def open_picture(opener: PictureOpener, row: ImageRow) -> Opened:
    """Reads and decodes one picture. A bad one is a value, not an error.

    Raises:
        InputError: the source itself is gone.
    """
    started = time.monotonic()
    try:
        data = opener.read(row)
        have_read = time.monotonic()
        pixels: Pixels = np.asarray(opener.decode(row, data))
    except BadPicture as exc:
        return Opened(None, "", FailureClass.BAD_IMAGE, str(exc))
    except PictureChanged as exc:
        return Opened(None, "", FailureClass.IMAGE_CHANGED, str(exc))
    sent_sha256 = pixels_sha256(pixels)
    return Opened(pixels, sent_sha256, None, None, have_read - started, time.monotonic() - have_read)


class DecodingPool:
    """Worker processes that open pictures. Use as a context manager."""

    def __init__(self, opener: PictureOpener, num_workers: int, num_ahead: int) -> None:
        self._tasks_ahead = max(2 * num_workers, -(-num_ahead // _PICTURES_PER_TASK))
        self._pool = Workers(num_workers, _remember, opener)
        # The processes start now: they are ready by the time the model is.
        self._started = [self._pool.submit(_awake) for _ in range(num_workers)]

    def __enter__(self) -> DecodingPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)

    def open_all(self, rows: Iterable[ImageRow]) -> Iterator[tuple[ImageRow, Opened]]:
        """Every row with its picture, in order; at most the number of pictures asked for is decoded ahead.

        Raises:
            SgvError: a worker process was killed.
        """
        rows = iter(rows)
        under_way: deque[tuple[list[ImageRow], Future[list[Opened]]]] = deque()
        try:
            while True:
                while len(under_way) < self._tasks_ahead and (task := list(islice(rows, _PICTURES_PER_TASK))):
                    under_way.append((task, self._pool.submit(_open_task, task)))
                if not under_way:
                    return
                task, future = under_way.popleft()
                yield from zip(task, future.result(), strict=True)
        except BrokenProcessPool as exc:
            raise SgvError(
                "a process that decodes pictures was killed (out of memory?); run the same command again to go on, "
                "with fewer expand.workers if it happens again"
            ) from exc


_opener: list[PictureOpener] = []
"""In a worker process: the one thing it was started with."""


def _remember(opener: PictureOpener) -> None:
    _opener.append(opener)


def _awake() -> None:
    """Something to start a process for."""


def _open_task(rows: list[ImageRow]) -> list[Opened]:
    return [open_picture(_opener[0], row) for row in rows]
