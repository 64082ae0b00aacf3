"""A table of many files read by columns: which rows satisfy a condition, and just those rows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sgv_data.errors import RunFolderError
from sgv_data.tables import table_files

_ROWS_AT_ONCE = 32_768

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]


class Columns:
    """The table `name` in `folder`; its rows are numbered from 0 through all files. At most a file is in memory.

    Raises:
        RunFolderError: if the table is not there or a file of it cannot be read.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.files = table_files(folder, name)
        if not self.files:
            raise RunFolderError(f"{folder} holds no {name}-*.parquet; the stage that writes it has not run")
        # Per file the number of its first row; per row group its file, its place there and its first row.
        self._starts: list[int] = []
        self._groups: list[tuple[Path, int]] = []
        self._group_starts: list[int] = []
        self.num_rows = 0
        for path in self.files:
            self._starts.append(self.num_rows)
            for place, num_rows in enumerate(_group_sizes(path)):
                self._groups.append((path, place))
                self._group_starts.append(self.num_rows)
                self.num_rows += num_rows

    @property
    def groups_in_order(self) -> list[tuple[Path, int]]:
        """File and number in it of every row group."""
        return list(self._groups)

    def where(self, condition: Callable[[pa.Table], pa.ChunkedArray], columns: list[str]) -> Mask:
        """For each row whether it satisfies a condition on some columns."""
        return np.concatenate([as_mask(condition(table)) for table in self.tables(columns)])

    def tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """Some columns of all rows, a file at a time."""
        return (_read(path, columns) for path in self.files)

    def parts(self, columns: list[str], mask: Mask) -> Iterator[tuple[Positions, pa.Table]]:
        """Some columns of the rows in `mask`, some ten thousand at a time, with the numbers of these rows."""
        for path, start, end in zip(self.files, self._starts, [*self._starts[1:], self.num_rows], strict=True):
            wanted = mask[start:end]
            if wanted.any():
                positions, part = np.flatnonzero(wanted) + start, _read(path, columns).filter(_arrow_mask(wanted))
                for first in range(0, len(positions), _ROWS_AT_ONCE):
                    yield positions[first : first + _ROWS_AT_ONCE], part.slice(first, _ROWS_AT_ONCE)

    def groups(self, mask: Mask, first: int, columns: list[str] | None) -> Iterator[tuple[Positions, pa.Table]]:
        """The rows in `mask`, a row group at a time, with their numbers; from row `first` on, then those before it."""
        positions = np.flatnonzero(mask)
        cut = int(np.searchsorted(positions, first))
        for half in (positions[cut:], positions[:cut]):
            cuts = np.searchsorted(half, [*self._group_starts, self.num_rows])
            for number in np.flatnonzero(np.diff(cuts)):
                path, place = self._groups[number]
                rows = half[cuts[number] : cuts[number + 1]]
                with _opened(path) as file:
                    group = file.read_row_group(place, columns=columns)
                yield rows, group.take(_arrow_numbers(rows - self._group_starts[number]))


# Arrow's own ways from and to numpy load pandas where it is installed, which takes 0.3 s.


def as_mask(values: pa.ChunkedArray) -> Mask:
    """A column of truth values, none of them null."""
    return as_numbers(pc.cast(values, pa.int8())).astype(np.bool_)


def as_numbers(values: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column of numbers, none of them null."""
    kind = np.dtype(str(values.type).replace("double", "float64"))
    parts = [
        np.frombuffer(chunk.buffers()[1], kind, len(chunk), chunk.offset * kind.itemsize)
        for chunk in values.chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _arrow_mask(mask: Mask) -> pa.Array:
    bits = np.packbits(mask, bitorder="little").tobytes()
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, pa.py_buffer(bits)])


def _arrow_numbers(numbers: Positions) -> pa.Array:
    data = numbers.astype(np.int64).tobytes()
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(data)])


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as exc:
        raise RunFolderError(f"{path} is damaged or of another version ({exc}); remove its stage with --redo") from exc


def _group_sizes(path: Path) -> list[int]:
    with _opened(path) as file:
        return [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)]


def _read(path: Path, columns: list[str]) -> pa.Table:
    with _opened(path) as file:
        return file.read(columns=columns)
