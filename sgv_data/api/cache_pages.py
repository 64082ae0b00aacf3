"""Replies read from the raw pages of a damaged SQLite file, without the trees that should lead to them.

Source: https://www.sqlite.org/fileformat2.html, sections 1.3 (header), 1.5 and 1.6 (leaf pages, cells, overflow), 2.1
(records), 4.1 (write-ahead log). A row counts only if it has the shape of a reply and its body the checksum that zlib
keeps with it, so nothing else is ever taken for one.
"""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_TABLE_LEAF = 0x0D
_HEADER_NUM_BYTES = 100
_FRAME_HEAD_NUM_BYTES = 24
_LOG_HEAD_NUM_BYTES = 32
_USUAL_PAGE_NUM_BYTES = 4096
_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
_KEY = re.compile(r"[0-9a-f]{64}")
_MOST_PAYLOAD = 64 << 20
# Values of a row that format 1 wrote, and of one with the columns of format 2.
_NUM_VALUES = (14, 17)
_INTEGER_NUM_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

Row = tuple[Any, ...]
Bytes = bytes | mmap.mmap


def replies_in_pages(path: Path) -> Iterator[Row]:
    """Every whole reply in the file and in its log, as the stored columns with the row's id first; some twice."""
    data, log = _mapped(path), _mapped(path.with_name(path.name + "-wal"))
    size = _page_size(data, log)
    yield from _rows(_Pages(data, size, {}), range(1, len(data) // size + 1), size)
    changed = _logged(log, size)
    yield from _rows(_Pages(data, size, changed), changed, size)


def _mapped(path: Path) -> Bytes:
    if not path.is_file() or not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class _Pages:
    """Pages by their number, counted from 1; those in the log win."""

    def __init__(self, data: Bytes, size: int, changed: Mapping[int, bytes]) -> None:
        self._data, self._size, self._changed = data, size, changed

    def __getitem__(self, number: int) -> bytes:
        if number in self._changed:
            return self._changed[number]
        page = self._data[(number - 1) * self._size : number * self._size]
        if number < 1 or len(page) < self._size:
            raise ValueError(f"there is no page {number}")
        return page


def _page_size(data: Bytes, log: Bytes) -> int:
    written = [int.from_bytes(data[16:18], "big"), int.from_bytes(log[8:12], "big")]
    for size in (65536 if value == 1 else value for value in written):
        if size in _PAGE_SIZES:
            return size
    return _USUAL_PAGE_NUM_BYTES


def _logged(log: Bytes, size: int) -> dict[int, bytes]:
    """The newest copy of each page in a log."""
    pages = {}
    step = _FRAME_HEAD_NUM_BYTES + size
    for start in range(_LOG_HEAD_NUM_BYTES, len(log) - step + 1, step):
        if log[start + 8 : start + 16] == log[16:24]:
            (number,) = struct.unpack_from(">I", log, start)
            pages[number] = log[start + _FRAME_HEAD_NUM_BYTES : start + step]
    return pages


def _rows(pages: _Pages, numbers: Iterable[int], size: int) -> Iterator[Row]:
    for number in numbers:
        page = pages[number]
        head = _HEADER_NUM_BYTES if number == 1 else 0
        if page[head] != _TABLE_LEAF:
            continue
        (num_cells,) = struct.unpack_from(">H", page, head + 3)
        for place in range(min(num_cells, (size - head - 8) // 2)):
            (start,) = struct.unpack_from(">H", page, head + 8 + 2 * place)
            try:
                row = _row(pages, page, start, size)
            except (ValueError, IndexError, struct.error, zlib.error):
                continue
            if row is not None:
                yield row


def _row(pages: _Pages, page: bytes, start: int, size: int) -> Row | None:
    num_bytes, place = _varint(page, start)
    row_id, place = _varint(page, place)
    if num_bytes > _MOST_PAYLOAD:
        return None
    values = _values(_payload(pages, page, place, num_bytes, size))
    if len(values) not in _NUM_VALUES:
        return None
    _, key, body, *rest = values
    if not isinstance(key, str) or not _KEY.fullmatch(key) or not isinstance(body, bytes):
        return None
    zlib.decompress(body)
    return row_id, key, body, *rest


def _payload(pages: _Pages, page: bytes, place: int, num_bytes: int, size: int) -> bytes:
    """The bytes of a row, followed through its overflow pages. No bytes at the end of a page are reserved."""
    most_here, least_here = size - 35, (size - 12) * 32 // 255 - 23
    if num_bytes <= most_here:
        return page[place : place + num_bytes]
    here = least_here + (num_bytes - least_here) % (size - 4)
    here = here if here <= most_here else least_here
    payload = page[place : place + here]
    (following,) = struct.unpack_from(">I", page, place + here)
    while len(payload) < num_bytes:
        page = pages[following]
        payload += page[4 : 4 + num_bytes - len(payload)]
        (following,) = struct.unpack_from(">I", page, 0)
    return payload


def _values(record: bytes) -> list[Any]:
    head_num_bytes, place = _varint(record, 0)
    kinds = []
    while place < head_num_bytes:
        kind, place = _varint(record, place)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        value, place = _value(record, place, kind)
        values.append(value)
    if place != len(record):
        raise ValueError("a record is longer or shorter than its parts")
    return values


def _value(record: bytes, place: int, kind: int) -> tuple[Any, int]:
    if kind == 0:
        return None, place
    if kind in (8, 9):
        return kind - 8, place
    if kind in _INTEGER_NUM_BYTES:
        end = place + _INTEGER_NUM_BYTES[kind]
        return int.from_bytes(record[place:end], "big", signed=True), end
    if kind == 7:
        return struct.unpack_from(">d", record, place)[0], place + 8
    if kind < 12:
        raise ValueError("a kind of value that is never written")
    end = place + (kind - 12) // 2
    data = record[place:end]
    return (data.decode("utf-8", "replace") if kind % 2 else data), end


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for step in range(8):
        byte = data[place + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + step + 1
    return value << 8 | data[place + 8], place + 9
