"""Pictures read and decoded ahead of the model, in worker processes that never import torch."""

from __future__ import annotations

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
    """A picture of the index, decoded (`pixels` and the hash of them), or the reason why not."""

    pixels: Pixels | None
    sent_sha256: str
    failure: FailureClass | None
    detail: str | None


def open_picture(opener: PictureOpener, row: ImageRow) -> Opened:
    """Reads and decodes one picture. A bad one is a value, not an error.

    Raises:
        InputError: the source itself is gone.
    """
    try:
        pixels: Pixels = np.asarray(opener.open(row))
    except BadPicture as exc:
        return Opened(None, "", FailureClass.BAD_IMAGE, str(exc))
    except PictureChanged as exc:
        return Opened(None, "", FailureClass.IMAGE_CHANGED, str(exc))
    return Opened(pixels, pixels_sha256(pixels), None, None)


class DecodingPool:
    """Worker processes that open pictures. Use as a context manager."""

    def __init__(self, opener: PictureOpener, num_workers: int, num_ahead: int) -> None:
        self._tasks_ahead = max(2 * num_workers, -(-num_ahead // _PICTURES_PER_TASK))
        self._pool = Workers(num_workers, _remember, opener)

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


def _open_task(rows: list[ImageRow]) -> list[Opened]:
    return [open_picture(_opener[0], row) for row in rows]
