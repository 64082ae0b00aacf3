"""Rows in hash order from a stream in any order, in flat memory.

Up to `ROWS_IN_MEMORY` rows are simply sorted. More are spread over `NUM_BUCKETS` files by the first two hex digits of
their place, and then sorted one file at a time.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from sgv_data.errors import InputError
from sgv_data.index.look import Found
from sgv_data.records import image_order

ROWS_IN_MEMORY = 20_000
NUM_BUCKETS = 256


class Spill:
    """Collects rows in `folder`, which is emptied first and removed by `close`."""

    def __init__(self, folder: Path, rows_in_memory: int = ROWS_IN_MEMORY) -> None:
        self._folder, self._rows_in_memory = folder, rows_in_memory
        self._pending: list[tuple[str, Found]] = []
        self._spilled = False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def add(self, found: Found) -> None:
        """Takes one row."""
        self._pending.append((image_order(found.row.image_id), found))
        if len(self._pending) > self._rows_in_memory:
            self._write()

    def batches(self) -> Iterator[list[Found]]:
        """All rows in hash order, in lists; can be asked for again, but not after more rows.

        Raises:
            InputError: if two rows have the same id.
        """
        if not self._spilled:
            yield _in_order(self._pending)
            return
        if self._pending:
            self._write()
        for bucket in range(NUM_BUCKETS):
            yield _in_order(list(self._read(bucket)))

    def close(self) -> None:
        """Removes the files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self) -> None:
        self._spilled = True
        buckets: dict[int, list[tuple[str, Found]]] = {}
        for place, found in self._pending:
            buckets.setdefault(int(place[:2], 16), []).append((place, found))
        self._pending = []
        for bucket, rows in buckets.items():
            with self._file(bucket).open("ab") as file:
                pickle.dump(rows, file, protocol=pickle.HIGHEST_PROTOCOL)

    def _read(self, bucket: int) -> Iterator[tuple[str, Found]]:
        if not self._file(bucket).exists():
            return
        with self._file(bucket).open("rb") as file:
            while file.peek(1):
                yield from pickle.load(file)

    def _file(self, bucket: int) -> Path:
        return self._folder / f"{bucket:02x}.rows"


def _in_order(rows: list[tuple[str, Found]]) -> list[Found]:
    rows.sort(key=lambda row: row[0])
    for (place, found), (next_place, other) in pairwise(rows):
        if place == next_place:
            raise InputError(
                f"two pictures have the same id {found.row.image_id!r}: {found.row.location} and {other.row.location}; "
                "rename one, or put them into sources of different names"
            )
    return [found for _, found in rows]
