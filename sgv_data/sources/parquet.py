"""Source kind `parquet`: pictures whose bytes stand in a column of Parquet files, as the Hub stores them.

A location is `FILE#ROW`. Reading a row reads its row group, and the latest one is kept: in the files' order each group
is read once; in another order a read costs a group.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgv_data.errors import InputError
from sgv_data.sources.paths import fixed_part, quote_path, unquote_path
from sgv_data.sources.source import Entry
from sgv_data.sources.texts import clean_text

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BYTES = "bytes"
_ROWS_AT_ONCE = 1024


class ParquetPictures:
    """The rows of a Parquet file, of all below a folder, or of those that a glob names."""

    size_px: tuple[int, int] | None = None

    def __init__(self, path: str, image_column: str, key_column: str | None, text_column: str | None) -> None:
        self._path = os.path.expanduser(path)
        self._root = fixed_part(self._path)
        self._image, self._key, self._text = image_column, key_column, text_column
        self._last: tuple[str, int, int, Any] | None = None
        self.ignored: Counter[str] = Counter()
        self.warnings: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def identity(self) -> dict[str, Any]:
        """Digest over names and sizes of the files, and the columns that are read."""
        hasher, files = hashlib.sha256(), self._files()
        for name in files:
            hasher.update(f"{quote_path(name)}\0{(self._root / name).stat().st_size}\n".encode())
        columns = [self._image, self._key, self._text]
        return {"files": len(files), "listing": hasher.hexdigest(), "columns": columns}

    def entries(self) -> Iterator[Entry]:
        self.ignored, self.warnings = Counter(), []
        found_any = False
        for name in self._files():
            for entry in self._in_file(name):
                found_any = True
                yield entry
        if not found_any:
            raise InputError(f"{self._path}: no pictures in the Parquet files there")

    def read(self, location: str) -> bytes:
        name, _, row = location.rpartition("#")
        if not name or not row.isdigit():
            raise InputError(f"{location!r} is no row of a Parquet file (FILE#ROW)")
        value = self._value(unquote_path(name), int(row))
        if value is None:
            raise OSError(f"{location} holds no bytes")
        return value

    def part(self, location: str) -> None:
        return None

    def _in_file(self, name: str) -> Iterator[Entry]:
        stem, row = name.removesuffix(".parquet"), 0
        with self._open(name) as file:
            kind = file.schema_arrow.field(self._image).type
            if not _is_picture(kind):
                raise InputError(f"{self._root / name}: the column {self._image!r} is {kind}, not bytes")
            for key, text in self._labels(file):
                yield Entry(
                    key=quote_path(f"{stem}/{f'{row:06d}' if key is None else key}"),
                    location=f"{quote_path(name, also='#')}#{row}",
                    text=clean_text(text.encode("utf-8", "replace")) if isinstance(text, str) else None,
                )
                row += 1

    def _labels(self, file: pq.ParquetFile) -> Iterator[tuple[Any, Any]]:
        """Key and text of every row, None where there is no such column; the pictures are not read."""
        wanted = [column for column in (self._key, self._text) if column]
        if not wanted:
            yield from repeat((None, None), file.metadata.num_rows)
            return
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
            nothing = [None] * batch.num_rows
            keys = batch.column(self._key).to_pylist() if self._key else nothing
            texts = batch.column(self._text).to_pylist() if self._text else nothing
            yield from zip(keys, texts, strict=True)

    def _value(self, name: str, row: int) -> bytes | None:
        if self._last is None or self._last[0] != name or not 0 <= row - self._last[1] < self._last[2]:
            self._last = self._group(name, row)
        _, first, _, column = self._last
        value = column[row - first].as_py()
        return value if value is None else bytes(value)

    def _group(self, name: str, row: int) -> tuple[str, int, int, pa.ChunkedArray]:
        """The bytes of the row group that a row is in, with the group's first row and length."""
        with self._open(name) as file:
            first = 0
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                if row < first + count:
                    return name, first, count, self._bytes(file.read_row_group(number, columns=[self._image]))
                first += count
        raise InputError(f"{self._root / name}: has {first} rows, none with number {row}")

    def _bytes(self, table: pa.Table) -> pa.ChunkedArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = table.column(self._image)
        return pc.struct_field(column, _BYTES) if pa.types.is_struct(column.type) else column

    def _open(self, name: str) -> pq.ParquetFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._root / name
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as exc:
            raise InputError(f"{path}: is no Parquet file or is cut off ({exc})") from exc
        there = file.schema_arrow.names
        missing = [each for each in (self._image, self._key, self._text) if each and each not in there]
        if missing:
            file.close()
            raise InputError(f"{path}: has no column {missing[0]!r}; its columns are {', '.join(there)}")
        return file

    def _files(self) -> list[str]:
        """Paths of the files relative to the root, sorted."""
        path = Path(self._path)
        if path.is_dir():
            found = [each for each in path.rglob("*.parquet") if each.is_file()]
        elif path.is_file():
            found = [path]
        else:
            found = [Path(each) for each in glob.glob(self._path, recursive=True) if os.path.isfile(each)]
        if not found:
            raise InputError(f"{self._path}: no Parquet files there")
        return sorted(str(each.relative_to(self._root)) for each in found)


def _is_picture(kind: pa.DataType) -> bool:
    """Whether a column holds bytes, plainly or as the Hub's `{bytes, path}`."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == _BYTES and _is_picture(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
