"""A large table of captions, made by all cores: each takes a row group of the index at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path

import pyarrow as pa

from sgv_data.api.cache import ReplyCache
from sgv_data.collect.again import all_rounds
from sgv_data.collect.questions import Questions
from sgv_data.collect.scan_columns import Columns
from sgv_data.collect.table import CaptionTable
from sgv_data.manifest import Manifest
from sgv_data.processes import in_order, usable_cores
from sgv_data.records import CaptionRow, FailureClass, ImageRow, Outcome
from sgv_data.tables import TableWriter, read_file, to_arrow, write_table

# Processes take a second to start, in which one core makes so many rows.
_ENOUGH_FOR_PROCESSES = 30_000
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Making:
    """All that a process needs to make a part of the table. `folder` is that of the stage."""

    manifest_json: str
    cache: Path
    run: str
    session: str
    folder: Path

    @classmethod
    def of(cls, manifest: Manifest, cache: ReplyCache, session: str, folder: Path) -> Making:
        return cls(manifest.model_dump_json(), cache.path, cache.run, session, folder)


@dataclass(frozen=True, slots=True)
class _Task:
    making: Making
    file: Path
    group: int


@dataclass(frozen=True, slots=True)
class _Part:
    rows: pa.Table
    outcomes: Counter[Outcome]
    failures: Counter[FailureClass]


def write_captions(table: CaptionTable, making: Making, index: Path, num_processes: int | None = None) -> int:
    """Writes `captions-*.parquet` and returns the number of rows; `table` counts them. The number of processes (None:
    as many as there are cores, for a large table) changes nothing in the files.

    Raises:
        BalanceError: if a picture has neither an answer nor a failure.
    """
    columns = Columns(index, "images")
    if num_processes is None:
        num_processes = usable_cores() if columns.num_rows >= _ENOUGH_FOR_PROCESSES else 1
    if num_processes <= 1:
        return write_table(making.folder, "captions", CaptionRow, table.rows(index))
    tasks = (_Task(making, file, group) for file, group in columns.groups_in_order)
    with TableWriter(making.folder, "captions", CaptionRow) as writer:
        for part in in_order(_made, tasks, num_processes):
            writer.add_table(part.rows)
            table.outcomes += part.outcomes
            table.failures += part.failures
        return writer.num_rows


def _made(task: _Task) -> _Part:
    """The rows of one row group of the index. Runs in a worker process."""
    table = _opened(task.making)
    table.outcomes.clear()
    table.failures.clear()
    asked = [row for row in read_file(task.file, ImageRow, task.group) if row.for_teacher and row.reject is None]
    rows = [row for part in _parts(asked) for row in table.part(part)]
    return _Part(to_arrow(rows, CaptionRow), Counter(table.outcomes), Counter(table.failures))


def _parts(rows: list[ImageRow]) -> Iterator[list[ImageRow]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]


@remembered
def _opened(making: Making) -> CaptionTable:
    manifest = Manifest.model_validate_json(making.manifest_json)
    cache = ReplyCache(making.cache, run=making.run, name=manifest.name)
    return CaptionTable(manifest, Questions(manifest), cache, making.session, all_rounds(making.folder))
