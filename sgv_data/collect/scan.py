"""Which pictures still have to be asked about: the index against the reply cache. Decodes nothing.

A million finished pictures must not hold up the next one. So finished rows never become objects: whole columns are
compared, and of the index only the row groups are read that hold a picture to ask about. What can be told at once comes
first (a picture that was never prepared was never asked about); what must be looked up row by row comes after, while
the first requests are in the air.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sgv_data.api import cache_bulk
from sgv_data.api.cache import ReplyCache
from sgv_data.api.prices import TokenPrice
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.collect.scan_columns import Columns, Mask, Positions, as_numbers
from sgv_data.collect.scan_keys import KeyFile, purpose_of
from sgv_data.manifest import Manifest
from sgv_data.records import ImageRow, image_order
from sgv_data.tables import read_table

KEYS = ".keys"

_ROWS_AT_ONCE = 256
_FEW = 20_000
_PARTS_BEFORE_LEARNING = 8
_ASKING_COLUMNS = ["image_id", "source", "text", "sha256"]
_KEY_DIGITS = 64


@dataclass(slots=True)
class Tally:
    """How many usable pictures there are, how many the teacher gets, and what these can cost at most."""

    num_usable: int = 0
    num_asked: int = 0
    worst_usd: float = 0.0


def tally(index: Path, questions: Questions, price: TokenPrice | None) -> Tally:
    """Counts the index by columns; what pictures of one source and size cost is worked out once."""
    count = Tally()
    columns = ["reject", "for_teacher", *(["source", "width_px", "height_px"] if price else [])]
    for table in Columns(index, "images").tables(columns):
        usable = pc.is_null(table["reject"])
        asked = pc.and_(usable, table["for_teacher"])
        count.num_usable += pc.sum(usable).as_py() or 0
        count.num_asked += pc.sum(asked).as_py() or 0
        if price:
            for source, width_px, height_px, number in _sizes(table.filter(asked)):
                count.worst_usd += number * questions.worst_usd(source, width_px, height_px, price)
    return count


def _sizes(table: pa.Table) -> Iterator[tuple[str, int, int, int]]:
    """Source, width, height, and how many rows have them. By hand: what Arrow has for it takes 0.3 s to load."""
    if not table.num_rows:
        return
    source = table["source"].combine_chunks().dictionary_encode()
    place = as_numbers(pa.chunked_array([source.indices]))
    packed = as_numbers(table["width_px"]) << 32 | as_numbers(table["height_px"])
    for number, name in enumerate(source.dictionary.to_pylist()):
        for size, count in zip(*np.unique(packed[place == number], return_counts=True), strict=True):
            yield name, int(size) >> 32, int(size) & 0xFFFFFFFF, int(count)


def asked_rows(index: Path) -> Iterator[ImageRow]:
    """The pictures that the teacher gets, in hash order."""
    return (row for row in read_table(index, "images", ImageRow) if row.for_teacher and row.reject is None)


def in_parts(rows: Iterator[ImageRow]) -> Iterator[list[ImageRow]]:
    """The rows in lists of a few hundred."""
    while part := list(islice(rows, _ROWS_AT_ONCE)):
        yield part


def pending_rows(
    index: Path, manifest: Manifest, questions: Questions, cache: ReplyCache, session: str
) -> PendingRows:
    """The pictures without an answer or a failure of this session, in lists that are never empty.

    Runs that share a cache begin at different places of the index, so that they do not ask the same at the same time.
    """
    return PendingRows(index, manifest, questions, cache, session)


class PendingRows:
    """An iterator over lists of pictures to ask about. Looks at the cache when it is first asked for one.

    `num_done` counts the pictures found to have ended before; it is whole when the iterator is at its end.
    """

    def __init__(
        self, index: Path, manifest: Manifest, questions: Questions, cache: ReplyCache, session: str
    ) -> None:
        self._index, self._manifest, self._questions = index, manifest, questions
        self._cache, self._session = cache, session
        self._recipe = recipe_name(manifest.teacher)
        self._stage = index.parent / "collect"
        self._to_learn: deque[tuple[Positions, list[ImageRow]]] = deque()
        self.num_done = 0
        self._parts = self._find()

    def __iter__(self) -> PendingRows:
        return self

    def __next__(self) -> list[ImageRow]:
        return next(self._parts)

    def _find(self) -> Iterator[list[ImageRow]]:
        self._table = Columns(self._index, "images")
        # Both are spent outside of Python, so that two cores do them at once.
        with ThreadPoolExecutor(1) as pool:
            loaded = pool.submit(self._load_ended)
            purpose = purpose_of(self._table.files, self._manifest, self._questions, self._recipe)
            self._key_file = KeyFile(self._stage / KEYS, purpose, self._table.num_rows)
            self._keys = self._key_file.numbers
            asked = self._table.where(lambda part: pc.and_(pc.is_null(part["reject"]), part["for_teacher"]),
                                      ["reject", "for_teacher"])  # fmt: skip
            loaded.result()
        unknown, ended = asked & (self._keys == 0), asked & self._has_ended(self._keys)
        self._unsure = asked & ~ended & cache_bulk.contains(self._unjudged, self._keys)
        self.num_done += int(ended.sum())
        yield from self._rows(asked & ~unknown & ~ended & ~self._unsure)
        yield from self._never_prepared(unknown)
        yield from self._looked_up(unknown)
        if self._unsure.any():
            yield from self._judged_anew()
        while self._to_learn:
            self._learn(*self._to_learn.popleft())

    def _load_ended(self) -> None:
        failed = cache_bulk.failed_subjects(self._cache, self._session)
        self._failed_pictures = {subject for subject in failed if len(subject) < _KEY_DIGITS}
        self._ended = cache_bulk.finished_keys(self._cache)
        if failed_keys := failed - self._failed_pictures:
            self._ended = np.sort(np.concatenate([self._ended, cache_bulk.numbers_of(failed_keys)]))
        self._unjudged = cache_bulk.unjudged_keys(self._cache)

    def _has_ended(self, keys: cache_bulk.Numbers) -> Mask:
        return np.asarray((keys != 0) & cache_bulk.contains(self._ended, keys))

    def _never_prepared(self, unknown: Mask) -> Iterator[list[ImageRow]]:
        """Gives pictures that were surely never asked about, and takes them out of `unknown`."""
        if np.count_nonzero(unknown) <= _FEW:
            return
        sent = cache_bulk.sent_pictures(self._cache, self._recipe)
        for positions, part in self._table.parts(["sha256"], unknown):
            missing = np.zeros_like(unknown)
            missing[positions] = ~cache_bulk.contains(sent, cache_bulk.numbers_of(part["sha256"].to_pylist()))
            unknown &= ~missing
            yield from self._rows(missing)

    def _looked_up(self, unknown: Mask) -> Iterator[list[ImageRow]]:
        """Makes the keys of pictures that were prepared before, and gives those that have no end."""
        for positions, part in self._table.parts(_ASKING_COLUMNS, unknown):
            rows = list(map(_Asked, *(part[name].to_pylist() for name in _ASKING_COLUMNS)))
            self._learn(positions, rows)
            keys = self._keys[positions]
            ended = self._has_ended(keys)
            unsure = ~ended & cache_bulk.contains(self._unjudged, keys)
            self._unsure[positions[unsure]] = True
            self.num_done += int(ended.sum())
            pending = np.zeros_like(unknown)
            pending[positions[~ended & ~unsure]] = True
            yield from self._rows(pending)

    def _judged_anew(self) -> Iterator[list[ImageRow]]:
        """Lets the present parser read what older ones judged; gives the pictures that lose their answer by it."""
        while self._cache.rejudge():
            pass
        self._load_ended()
        ended = self._has_ended(self._keys)
        self.num_done += int((self._unsure & ended).sum())
        yield from self._rows(self._unsure & ~ended)

    def _rows(self, mask: Mask) -> Iterator[list[ImageRow]]:
        """The rows in `mask`, but for pictures that failed in this session."""
        for positions, found in self._table.groups(mask, self._first_row(), None):
            for start in range(0, len(positions), _ROWS_AT_ONCE):
                rows = [ImageRow(**row) for row in found.slice(start, _ROWS_AT_ONCE).to_pylist()]
                part = [row for row in rows if not self._failed(row)]
                self.num_done += len(rows) - len(part)
                if part:
                    yield part
                self._to_learn.append((positions[start : start + _ROWS_AT_ONCE], rows))
                if len(self._to_learn) > _PARTS_BEFORE_LEARNING:
                    self._learn(*self._to_learn.popleft())

    def _first_row(self) -> int:
        """Where this run begins: at the top, or, where runs share a cache, at a place that follows from its name."""
        if self._cache.path.parent == self._stage or not self._cache.run:
            return 0
        drawn = hashlib.sha256(self._cache.run.encode()).digest()
        return int.from_bytes(drawn[:8], "big") % max(1, self._table.num_rows)

    def _failed(self, row: ImageRow) -> bool:
        return bool(self._failed_pictures) and image_order(row.image_id) in self._failed_pictures

    def _learn(self, positions: Positions, rows: Sequence[ImageRow | _Asked]) -> None:
        """Notes the keys of pictures that have been prepared by now."""
        sent = self._cache.sent(self._recipe, {row.sha256 for row in rows})
        key, number_of = self._questions.key, cache_bulk.number_of
        keys = [number_of(key(row, sent[row.sha256])) if row.sha256 in sent else 0 for row in rows]
        self._key_file.note(positions, keys)


class _Asked(NamedTuple):
    """As much of an index row as the question about it needs; a million of them are made in a second."""

    image_id: str
    source: str
    text: str | None
    sha256: str
