"""Tables of rows on disk: Parquet files `<name>-00000.parquet`, written and read in streams.

A table holds rows of one frozen dataclass; its Arrow schema follows from the annotations. Files appear under their
final names only when complete. Memory is bounded by `ROWS_PER_GROUP` rows whatever the number of files.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from sgv_data.errors import RunFolderError
from sgv_data.run_folder import publish_file

Row = TypeVar("Row")
Left = TypeVar("Left")
Right = TypeVar("Right")

ROWS_PER_GROUP = 4_096
ROWS_PER_FILE = 100_000

_ARROW_TYPES: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def _columns(row_type: type) -> dict[str, tuple[type, bool]]:
    """Name -> (Python type, nullable) of each field."""
    columns = {}
    for name, hint in typing.get_type_hints(row_type).items():
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        plain = [part for part in parts if part is not types.NoneType]
        columns[name] = (plain[0], len(plain) != len(parts))
    return columns


def schema_of(row_type: type) -> pa.Schema:
    """The Arrow schema of a row dataclass; closed sets are stored as strings."""
    fields = []
    for name, (kind, nullable) in _columns(row_type).items():
        arrow = pa.string() if issubclass(kind, StrEnum) else _ARROW_TYPES[kind]
        fields.append(pa.field(name, arrow, nullable=nullable))
    return pa.schema(fields)


class TableWriter(Generic[Row]):
    """Writes one table. Use as a context manager: leaving it by an exception leaves no new file visible."""

    def __init__(self, folder: Path, name: str, row_type: type[Row], rows_per_file: int = ROWS_PER_FILE) -> None:
        self._folder, self._name, self._row_type = folder, name, row_type
        self._rows_per_file = rows_per_file
        self._pending: list[Row] = []
        self._tables: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None
        self._num_files = self._rows_in_file = 0
        self.num_rows = 0

    def __enter__(self) -> TableWriter[Row]:
        self._folder.mkdir(parents=True, exist_ok=True)
        for stale in table_files(self._folder, self._name):
            stale.unlink()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            if self._tables and self._tables[0].num_rows:
                self._write(self._tables[0].combine_chunks())
            if self._pending or not self.num_rows:
                self._flush()
            self._close_file()
        elif self._writer is not None:
            self._writer.close()
            self._temporary().unlink(missing_ok=True)

    def add(self, row: Row) -> None:
        """Appends a row."""
        self._pending.append(row)
        self.num_rows += 1
        if len(self._pending) >= ROWS_PER_GROUP:
            self._flush()

    def add_table(self, table: pa.Table) -> None:
        """Appends many rows, as `to_arrow` gives them. A table is made with this or with `add`, not with both."""
        self.num_rows += table.num_rows
        whole = pa.concat_tables([*self._tables, table])
        while whole.num_rows >= ROWS_PER_GROUP:
            self._write(whole.slice(0, ROWS_PER_GROUP).combine_chunks())
            whole = whole.slice(ROWS_PER_GROUP)
        self._tables = [whole]

    def _final(self) -> Path:
        return self._folder / f"{self._name}-{self._num_files:05d}.parquet"

    def _temporary(self) -> Path:
        return self._folder / f".{self._name}-{self._num_files:05d}.parquet.tmp"

    def _flush(self) -> None:
        rows, self._pending = self._pending, []
        self._write(to_arrow(rows, self._row_type))

    def _write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._temporary(), schema_of(self._row_type), compression="zstd")
        self._writer.write_table(table)
        self._rows_in_file += table.num_rows
        if self._rows_in_file >= self._rows_per_file:
            self._close_file()

    def _close_file(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        publish_file(self._temporary(), self._final())
        self._num_files += 1
        self._rows_in_file = 0


def to_arrow(rows: list[Row], row_type: type[Row]) -> pa.Table:
    """Rows as one Arrow table."""
    schema = schema_of(row_type)
    columns = list(zip(*map(attrgetter(*schema.names), rows), strict=True)) if len(schema.names) > 1 else []
    arrays = []
    for position, field in enumerate(schema):
        values = columns[position] if columns else [getattr(row, field.name) for row in rows]
        arrays.append(_array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, type=kind)
    except UnicodeEncodeError:
        return pa.array([None if value is None else _storable(str(value)) for value in values], type=kind)


def _storable(text: str) -> str:
    """Lone surrogates, which UTF-8 cannot hold, as U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def write_table(folder: Path, name: str, row_type: type[Row], rows: Iterable[Row]) -> int:
    """Writes all `rows`; returns how many there were."""
    with TableWriter(folder, name, row_type) as writer:
        for row in rows:
            writer.add(row)
        return writer.num_rows


def table_files(folder: Path, name: str) -> list[Path]:
    """The finished files of a table, in order."""
    return sorted(folder.glob(f"{name}-[0-9]*.parquet"))


def read_table(folder: Path, name: str, row_type: type[Row]) -> Iterator[Row]:
    """The rows of a table in the order written.

    Raises:
        RunFolderError: if the table is not there or a file of it cannot be read.
    """
    files = table_files(folder, name)
    if not files:
        raise RunFolderError(f"{folder} holds no {name}-*.parquet; the stage that writes it has not run")
    for path in files:
        yield from read_file(path, row_type)


def read_file(path: Path, row_type: type[Row], group: int | None = None) -> Iterator[Row]:
    """The rows of one Parquet file, or of one row group of it."""
    make = _row_maker(row_type)
    try:
        with pq.ParquetFile(path) as file:
            groups = None if group is None else [group]
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, row_groups=groups):
                yield from map(make, *(_column(batch, each) for each in dataclasses.fields(row_type)))  # type: ignore[arg-type]
    except (pa.ArrowInvalid, KeyError, ValueError) as exc:
        raise RunFolderError(f"{path} is damaged or of another version ({exc}); remove its stage with --redo") from exc


def _column(batch: pa.RecordBatch, field: dataclasses.Field[Any]) -> list[Any]:
    """The values of one field; a file written before the field was thought of holds its default."""
    if field.name not in batch.schema.names and field.default is not dataclasses.MISSING:
        return [field.default] * batch.num_rows
    return cast(list[Any], batch.column(field.name).to_pylist())


def _row_maker(row_type: type[Row]) -> Callable[..., Row]:
    casts = [
        (position, kind)
        for position, (kind, _) in enumerate(_columns(row_type).values())
        if issubclass(kind, StrEnum)
    ]

    def make(*values: Any) -> Row:
        if casts:
            row = list(values)
            for position, kind in casts:
                if row[position] is not None:
                    row[position] = kind(row[position])
            return row_type(*row)
        return row_type(*values)

    return make


def merge_join(
    left: Iterable[Left],
    right: Iterable[Right],
    left_order: Callable[[Left], str],
    right_order: Callable[[Right], str],
) -> Iterator[tuple[Left, Right | None]]:
    """Each left row with the right row of the same order value, or None. Both sides sorted; right values unique.

    Raises:
        RunFolderError: if a right row has no left partner, since that means the tables are of different runs.
    """
    rights = iter(right)
    waiting = next(rights, None)
    for row in left:
        place = left_order(row)
        if waiting is not None and right_order(waiting) < place:
            raise RunFolderError(f"a row for {waiting} has no partner: these tables are of different runs")
        if waiting is not None and right_order(waiting) == place:
            yield row, waiting
            waiting = next(rights, None)
        else:
            yield row, None
    if waiting is not None:
        raise RunFolderError(f"a row for {waiting} has no partner: these tables are of different runs")
