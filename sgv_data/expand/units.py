"""Work units: runs of pictures in hash order that are described whole or not at all.

A unit is named by the hash of all that determines its captions, so a finished one can be used again by whoever wants
the same, and never by anybody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from sgv_data.errors import RunFolderError
from sgv_data.records import CaptionRow, ImageRow
from sgv_data.run_folder import digest, publish_file
from sgv_data.tables import read_file, to_arrow

_NAME_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Unit:
    """Pictures described together."""

    name: str
    rows: tuple[ImageRow, ...]


def cut_units(rows: Iterable[ImageRow], size: int, made_by: str) -> Iterator[Unit]:
    """Cuts rows in hash order into units. `made_by` is the hash of captioner, prompt and sampling."""
    rows = iter(rows)
    while unit_rows := tuple(islice(rows, size)):
        pictures = [[row.image_id, row.sha256] for row in unit_rows]
        yield Unit(digest({"made_by": made_by, "pictures": pictures})[:_NAME_DIGITS], unit_rows)


class UnitStore:
    """Finished units, a Parquet file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, unit: Unit) -> bool:
        """Whether the unit is finished."""
        return self._path(unit).is_file()

    def write(self, unit: Unit, captions: list[CaptionRow]) -> None:
        """Stores a finished unit: it appears whole."""
        path = self._path(unit)
        temporary = path.with_name(f".{path.name}.tmp")
        pq.write_table(to_arrow(captions, CaptionRow), temporary, compression="zstd")
        publish_file(temporary, path)

    def read(self, unit: Unit) -> list[CaptionRow]:
        """The captions of a finished unit, one per picture, in the unit's order.

        Raises:
            RunFolderError: if the file is damaged or holds something else.
        """
        captions = list(read_file(self._path(unit), CaptionRow))
        if [caption.image_id for caption in captions] != [row.image_id for row in unit.rows]:
            raise RunFolderError(f"{self._path(unit)} does not hold the pictures it is named after; remove it")
        return captions

    def _path(self, unit: Unit) -> Path:
        return self._folder / f"{unit.name}.parquet"
