"""What lies beside the tars once all are written: index tables, sizes, checksums."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from sgv_data.dataset_format import (
    DATA,
    METADATA,
    REMOVED_KEYS,
    SAMPLES,
    SHARDS,
    SIZES,
    SPLITS,
    SampleFailure,
    is_of_shards,
    visible_files,
    wids_index,
    write_checksums,
)
from sgv_data.records import SampleRow, ShardRow
from sgv_data.run_folder import write_durably
from sgv_data.shard.write import FAILURES, ShardDone
from sgv_data.tables import read_table, write_table

Row = TypeVar("Row")


def write_sidecars(
    folder: Path, notes: Path, shards: Sequence[ShardDone], removed: frozenset[str] = frozenset()
) -> None:
    """Joins the notes of all tars into the tables of the dataset, then writes what lies beside them."""
    written = [shard for shard in shards if shard.num_samples]
    write_table(folder / METADATA, SAMPLES, SampleRow, _in_hash_order(notes, written, SAMPLES, SampleRow))
    write_table(folder / METADATA, SHARDS, ShardRow, (shard.row() for shard in written))
    write_table(folder, FAILURES, SampleFailure, _in_hash_order(notes, shards, FAILURES, SampleFailure))
    write_beside(folder, [shard.row() for shard in written], removed)


def write_beside(folder: Path, shards: Sequence[ShardRow], removed: frozenset[str]) -> None:
    """Sizes, one wids index per split, keys of removed samples; SHA256SUMS comes last. Other tars are deleted."""
    _remove_strangers(folder / DATA, {row.shard for row in shards})
    for split in SPLITS:
        (folder / wids_index(split)).unlink(missing_ok=True)
        if rows := [row for row in shards if row.split == split]:
            write_durably(folder / wids_index(split), json.dumps(_wids(split, rows), indent=1) + "\n")
    if removed:
        write_durably(folder / METADATA / REMOVED_KEYS, json.dumps(sorted(removed), indent=0) + "\n")
    write_durably(folder / SIZES, json.dumps({row.shard: row.num_samples for row in shards}, indent=1) + "\n")
    names = [name for name in visible_files(folder) if is_of_shards(name)]
    write_checksums(folder, names, {f"{DATA}/{row.shard}": row.sha256 for row in shards})


def _wids(split: str, shards: Sequence[ShardRow]) -> dict[str, Any]:
    """What `wids` opens for access by number; it takes URLs relative to the index."""
    return {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": split,
        "shardlist": [
            {"url": f"{DATA}/{row.shard}", "nsamples": row.num_samples, "filesize": row.num_bytes, "sha256": row.sha256}
            for row in shards
        ],
    }


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
