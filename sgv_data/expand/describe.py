"""From units to stored captions: decoding, engine and writing as one bounded stream."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from sgv_data.expand.decoding import DecodingPool, Opened
from sgv_data.expand.engine import Engine, Picture
from sgv_data.expand.rows import Writer
from sgv_data.expand.units import Unit, UnitStore
from sgv_data.progress import Progress
from sgv_data.records import CaptionRow, ImageRow


@dataclass(slots=True)
class _Begun:
    """A unit under way: its captions by index, those still missing as None."""

    unit: Unit
    captions: list[CaptionRow | None]
    num_missing: int


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a caption belongs. `opened` is without its pixels."""

    begun: _Begun
    index: int
    opened: Opened

    @property
    def row(self) -> ImageRow:
        return self.begun.unit.rows[self.index]


class Describer:
    """Describes units and stores each as soon as its last picture is answered; batches may span units.

    The engine may pull pictures from a thread of its own: that side only adds to `_asked` and `_unopened`, this side
    only takes from them.
    """

    def __init__(
        self, engine: Engine, pool: DecodingPool, store: UnitStore, writer: Writer, progress: Progress
    ) -> None:
        self._engine, self._pool, self._store = engine, pool, store
        self._writer, self._progress = writer, progress
        self._asked: dict[int, _Slot] = {}
        self._unopened: deque[_Slot] = deque()
        self.num_described = self.num_tokens = 0
        self._started_s = time.monotonic()

    def describe(self, units: Iterable[Unit]) -> None:
        """Describes and stores all units it is given."""
        with closing(self._engine.describe(self._pictures(units))) as answers:
            for answer in answers:
                slot = self._asked.pop(answer.place)
                self.num_described += 1
                self.num_tokens += answer.completion_tokens
                self._store_caption(slot, self._writer.answered(slot.row, slot.opened, answer))
                self._settle_unopened()
        self._settle_unopened()

    def _pictures(self, units: Iterable[Unit]) -> Iterator[Picture]:
        """Decoded pictures for the engine; those that could not be opened are set aside."""
        coming: deque[tuple[_Begun, int]] = deque()
        for place, (_, opened) in enumerate(self._pool.open_all(_rows(units, coming))):
            begun, index = coming.popleft()
            if opened.pixels is None:
                self._unopened.append(_Slot(begun, index, opened))
            else:
                self._asked[place] = _Slot(begun, index, replace(opened, pixels=None))
                yield Picture(place, opened.pixels)

    def _settle_unopened(self) -> None:
        while self._unopened:
            slot = self._unopened.popleft()
            self._store_caption(slot, self._writer.unopened(slot.row, slot.opened))

    def _store_caption(self, slot: _Slot, caption: CaptionRow) -> None:
        begun = slot.begun
        begun.captions[slot.index] = caption
        begun.num_missing -= 1
        if not begun.num_missing:
            self._store.write(begun.unit, [each for each in begun.captions if each is not None])
        self._progress.advance(1, f"{self.num_described / (time.monotonic() - self._started_s):.1f} captions/s")


def _rows(units: Iterable[Unit], coming: deque[tuple[_Begun, int]]) -> Iterator[ImageRow]:
    """The rows of all units; where each belongs is appended to `coming`."""
    for unit in units:
        begun = _Begun(unit, [None] * len(unit.rows), len(unit.rows))
        for index, row in enumerate(unit.rows):
            coming.append((begun, index))
            yield row
