"""What lies beside the tars once all are written: index tables, sizes, checksums."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from sgv_data.dataset_format import (
    DATA,
    METADATA,
    SAMPLES,
    SHARDS,
    SIZES,
    SPLITS,
    SampleFailure,
    visible_files,
    write_checksums,
)
from sgv_data.records import SampleRow, ShardRow
from sgv_data.run_folder import write_durably
from sgv_data.shard.write import FAILURES, ShardDone
from sgv_data.tables import read_table, write_table

Row = TypeVar("Row")


def write_sidecars(folder: Path, notes: Path, shards: Sequence[ShardDone]) -> None:
    """Joins the notes of all tars into the tables of the dataset; SHA256SUMS comes last."""
    written = [shard for shard in shards if shard.num_samples]
    _remove_strangers(folder / DATA, {shard.shard for shard in written})
    write_table(folder / METADATA, SAMPLES, SampleRow, _in_hash_order(notes, written, SAMPLES, SampleRow))
    write_table(folder / METADATA, SHARDS, ShardRow, (shard.row() for shard in written))
    write_table(folder, FAILURES, SampleFailure, _in_hash_order(notes, shards, FAILURES, SampleFailure))
    write_durably(folder / SIZES, json.dumps({shard.shard: shard.num_samples for shard in written}, indent=1) + "\n")
    names = [
        name for name in visible_files(folder) if name == SIZES or name.startswith((f"{DATA}/", f"{METADATA}/"))
    ]
    write_checksums(folder, names, {f"{DATA}/{shard.shard}": shard.sha256 for shard in written})


def _in_hash_order(notes: Path, shards: Sequence[ShardDone], table: str, row_type: type[Row]) -> Iterator[Row]:
    """The rows of all notes: in order within a split, so the splits are merged."""
    splits = (_rows(notes, [each.shard for each in shards if each.split == split], table, row_type) for split in SPLITS)
    return heapq.merge(*splits, key=attrgetter("key"))


def _rows(notes: Path, names: list[str], table: str, row_type: type[Row]) -> Iterator[Row]:
    for name in names:
        yield from read_table(notes / name, table, row_type)


def _remove_strangers(data: Path, known: set[str]) -> None:
    """Removes what an interrupted attempt left unfinished."""
    for path in data.iterdir() if data.is_dir() else ():
        if path.name not in known:
            path.unlink()
