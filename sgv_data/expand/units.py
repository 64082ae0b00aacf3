"""Work units: runs of pictures in hash order that are described whole or not at all.

A unit is named by the hash of all that determines its captions, so a finished one can be used again by whoever wants
the same, and never by anybody else.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import pyarrow.parquet as pq

from sgv_data.errors import RunFolderError
from sgv_data.records import CaptionRow, ImageRow
from sgv_data.run_folder import digest, publish_file
from sgv_data.tables import read_file, to_arrow

_NAME_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Unit:
    """Pictures described together. `made_by` is the hash of captioner, prompt and decoding."""

    name: str
    rows: tuple[ImageRow, ...]
    made_by: str = ""

    def halves(self) -> tuple[Unit, Unit]:
        """Two units of the same pictures, for one that cannot be finished whole."""
        middle = len(self.rows) // 2
        return unit_of(self.rows[:middle], self.made_by), unit_of(self.rows[middle:], self.made_by)


def unit_of(rows: tuple[ImageRow, ...], made_by: str) -> Unit:
    """The unit of these pictures."""
    pictures = [[row.image_id, row.sha256] for row in rows]
    return Unit(digest({"made_by": made_by, "pictures": pictures})[:_NAME_DIGITS], rows, made_by)


def cut_units(rows: Iterable[ImageRow], size: int, made_by: str) -> Iterator[Unit]:
    """Cuts rows in hash order into units."""
    rows = iter(rows)
    while unit_rows := tuple(islice(rows, size)):
        yield unit_of(unit_rows, made_by)


class UnitStore:
    """Finished units, a Parquet file each: the askings about each picture, oldest first, in the unit's order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, unit: Unit) -> bool:
        """Whether the unit is finished."""
        return self._path(unit).is_file()

    def write(self, unit: Unit, askings: list[CaptionRow]) -> None:
        """Stores a finished unit: it appears whole, also when several processes write the same one."""
        path = self._path(unit)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            pq.write_table(to_arrow(askings, CaptionRow), temporary, compression="zstd")
            publish_file(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, unit: Unit) -> list[CaptionRow]:
        """All askings of a finished unit.

        Raises:
            RunFolderError: if the file is damaged or holds something else.
        """
        askings = list(read_file(self._path(unit), CaptionRow))
        if [image_id for image_id, _ in groupby(row.image_id for row in askings)] != [r.image_id for r in unit.rows]:
            raise RunFolderError(f"{self._path(unit)} does not hold the pictures it is named after; remove it")
        return askings

    def remove(self, unit: Unit) -> None:
        """Forgets a unit that has become part of another."""
        self._path(unit).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes what processes left that were killed while they wrote. For when nobody writes."""
        for left in self.folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)

    def _path(self, unit: Unit) -> Path:
        return self.folder / f"{unit.name}.parquet"
