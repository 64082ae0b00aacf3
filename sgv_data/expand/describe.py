"""From units to stored captions: decoding, engine, ladder and writing as one bounded stream."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from sgv_data.captioner.picture import Pixels
from sgv_data.captioner.setting import Setting, seed_of
from sgv_data.expand.decoding import DecodingPool, Opened
from sgv_data.expand.engine import Answer, Engine, Picture
from sgv_data.expand.feed import Feed
from sgv_data.expand.gauge import Gauge
from sgv_data.expand.ladder import Ladder
from sgv_data.expand.rows import Asking, Writer
from sgv_data.expand.units import Unit
from sgv_data.records import CaptionRow, ImageRow, Outcome

Store = Callable[[Unit, list[CaptionRow]], None]


@dataclass(slots=True)
class _Begun:
    """A unit under way: the askings about each picture, oldest first, and how many pictures lack their last one."""

    unit: Unit
    askings: list[list[CaptionRow]]
    num_missing: int


@dataclass(slots=True)
class _Slot:
    """Where a caption belongs. `opened` is without its pixels, which `pixels` keeps if they may be needed again."""

    begun: _Begun
    index: int
    opened: Opened
    setting: Setting
    pixels: Pixels | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def row(self) -> ImageRow:
        return self.begun.unit.rows[self.index]

    @property
    def asking(self) -> Asking:
        return Asking(self.setting, len(self.outcomes) + 1, self.outcomes[0] if self.outcomes else None)


class Describer:
    """Describes units; each is finished as soon as its last picture has its last answer. Batches may span units.

    The engine may pull pictures from a thread of its own: that side only adds to `_asked` and `_unopened`, this side
    only takes from them.
    """

    def __init__(
        self, engine: Engine, pool: DecodingPool, writer: Writer, ladder: Ladder, setting: Setting, gauge: Gauge
    ) -> None:
        self._engine, self._pool = engine, pool
        self._writer, self._ladder, self._setting, self._gauge = writer, ladder, setting, gauge
        self._asked: dict[int, _Slot] = {}
        self._unopened: deque[_Slot] = deque()
        self._finished: deque[_Begun] = deque()

    def describe(self, units: Iterable[Unit], store: Store) -> None:
        """Describes and stores all units it is given; `store` gets the askings about all pictures of a unit, in the
        unit's order."""
        for unit, askings in self.finished(units):
            started = time.monotonic()
            store(unit, askings)
            self._gauge.wrote(time.monotonic() - started)

    def finished(self, units: Iterable[Unit]) -> Generator[tuple[Unit, list[CaptionRow]]]:
        """Describes units and hands out each when it is finished."""
        self._asked.clear()
        self._unopened.clear()
        self._finished.clear()
        feed = Feed(self._pictures(units))
        with closing(feed), closing(self._engine.describe(feed)) as answers:
            try:
                for answer in answers:
                    self._take(answer, feed)
                    self._settle_unopened()
                    yield from self._hand_out()
            finally:
                feed.close()  # before the engine ends: its side may wait there
        self._settle_unopened()
        yield from self._hand_out()

    def _hand_out(self) -> Iterator[tuple[Unit, list[CaptionRow]]]:
        while self._finished:
            begun = self._finished.popleft()
            yield begun.unit, [row for askings in begun.askings for row in askings]

    def _pictures(self, units: Iterable[Unit]) -> Iterator[Picture]:
        """Decoded pictures for the engine; those that could not be opened are set aside."""
        coming: deque[tuple[_Begun, int]] = deque()
        for place, (row, opened) in enumerate(self._pool.open_all(_rows(units, coming))):
            begun, index = coming.popleft()
            self._gauge.opened(opened.read_s, opened.decode_s)
            slot = _Slot(begun, index, replace(opened, pixels=None), self._setting)
            if opened.pixels is None:
                self._unopened.append(slot)
                continue
            slot.pixels = opened.pixels if self._ladder.is_used else None
            self._asked[place] = slot
            yield Picture(place, opened.pixels, self._setting, self._seed(row, 1))

    def _take(self, answer: Answer, feed: Feed) -> None:
        slot = self._asked[answer.place]
        outcome = self._ladder.outcome(answer.text, answer.finish)
        begun = slot.begun
        begun.askings[slot.index].append(
            self._writer.answered(slot.row, slot.opened, answer, slot.asking, outcome)
        )
        slot.outcomes.append(outcome)
        setting = self._ladder.next_setting(slot.setting, slot.outcomes)
        self._gauge.answered(answer.completion_tokens)
        if setting is not None and slot.pixels is not None:
            slot.setting = setting
            seed = self._seed(slot.row, len(slot.outcomes) + 1)
            feed.put_back(Picture(answer.place, slot.pixels, setting, seed))
            return
        del self._asked[answer.place]
        feed.settle()
        self._end(slot)

    def _seed(self, row: ImageRow, asking: int) -> int:
        return seed_of(self._writer.seed, row.image_id, asking)

    def _settle_unopened(self) -> None:
        while self._unopened:
            slot = self._unopened.popleft()
            slot.begun.askings[slot.index].append(self._writer.unopened(slot.row, slot.opened, slot.asking))
            self._end(slot)

    def _end(self, slot: _Slot) -> None:
        """A picture has its last answer; with the last picture of a unit the unit is finished."""
        slot.begun.num_missing -= 1
        if not slot.begun.num_missing:
            self._finished.append(slot.begun)
        self._gauge.ended(self._engine.load)


def _rows(units: Iterable[Unit], coming: deque[tuple[_Begun, int]]) -> Iterator[ImageRow]:
    """The rows of all units; where each belongs is appended to `coming`."""
    for unit in units:
        begun = _Begun(unit, [[] for _ in unit.rows], len(unit.rows))
        for index, row in enumerate(unit.rows):
            coming.append((begun, index))
            yield row
