"""Samples removed on request, for good: `removed.jsonl` in the stage folder names them and outlives `--redo`.

Only the tars that hold them are written again, from their own members. Making the stage anew later gives the same
bytes, because a removed sample still takes its place when samples are dealt out.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sgv_data.dataset_format import DATA, JSON_FIELD, METADATA, SAMPLES, SHARDS, TEXT_FIELD
from sgv_data.errors import InputError
from sgv_data.progress import Progress
from sgv_data.records import SampleRow, ShardRow, StageReport, image_order
from sgv_data.run_folder import publish_folder, utc_now, write_durably
from sgv_data.shard.check import split_name
from sgv_data.shard.finish import write_beside
from sgv_data.shard.plan import TAKEN_DOWN
from sgv_data.shard.scan import TarScan
from sgv_data.shard.tar import TarFile
from sgv_data.tables import read_table, write_table

REMOVED = "removed.jsonl"

_OLD = ".metadata.old"
_KEY = re.compile(r"[0-9a-f]{20}")


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """A tar without its removed samples: its row, None if nothing is left, and where each member's payload begins."""

    row: ShardRow | None
    offsets: dict[str, int]


def removed_keys(folder: Path) -> frozenset[str]:
    """Keys of all samples that were ever removed from the shards of this stage folder."""
    path = folder / REMOVED
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return frozenset(json.loads(line)["key"] for line in lines)


def note_removal(folder: Path, names: Iterable[str]) -> None:
    """Writes down that these samples, named by key or image id, are to go. Nothing else happens yet.

    Raises:
        InputError: if one of them is not in the dataset and was not removed before.
    """
    wanted = {name if _KEY.fullmatch(name) else image_order(name): name for name in names}
    known = removed_keys(folder)
    rows = [row for row in read_table(folder / METADATA, SAMPLES, SampleRow) if row.key in wanted]
    for key, name in wanted.items():
        if key not in known and key not in {row.key for row in rows}:
            raise InputError(f"--takedown: the dataset has no sample {name!r}; nothing was removed")
    old = (folder / REMOVED).read_text(encoding="utf-8") if known else ""
    new = [{"key": row.key, "image_id": row.image_id, "removed_utc": utc_now()} for row in rows if row.key not in known]
    write_durably(folder / REMOVED, old + "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in new))


def take_down(folder: Path, progress: Progress) -> None:
    """Makes the shards what `removed.jsonl` wants. Killed in the middle, it is done again from where it was."""
    removed = removed_keys(folder)
    metadata, new = folder / METADATA, folder / ".metadata.new"
    if new.is_dir() and not metadata.is_dir():
        publish_folder(new, metadata)
    shutil.rmtree(new, ignore_errors=True)
    touched = {row.shard for row in read_table(metadata, SAMPLES, SampleRow) if row.key in removed}
    if touched:
        progress.begin("taking samples out", len(touched))
        done: dict[str, _Rewritten] = {}
        for shard in read_table(metadata, SHARDS, ShardRow):
            if shard.shard in touched:
                done[shard.shard] = _rewrite(folder / DATA / shard.shard, shard, removed)
                progress.advance(1, shard.shard)
        write_table(new, SHARDS, ShardRow, _shards(read_table(metadata, SHARDS, ShardRow), done))
        write_table(new, SAMPLES, SampleRow, _samples(read_table(metadata, SAMPLES, SampleRow), removed, done))
        shutil.rmtree(folder / _OLD, ignore_errors=True)
        metadata.rename(folder / _OLD)
        publish_folder(new, metadata)
    shutil.rmtree(folder / _OLD, ignore_errors=True)
    write_beside(folder, list(read_table(metadata, SHARDS, ShardRow)), removed)


def after_takedown(report: StageReport, folder: Path) -> StageReport:
    """The report of the stage with the samples that are in the tables now."""
    shards = list(read_table(folder / METADATA, SHARDS, ShardRow))
    splits = {row.split: 0 for row in shards}
    for row in shards:
        splits[row.split] += row.num_samples
    num_out = sum(splits.values())
    num_taken = report.rejected.get(TAKEN_DOWN, 0) + report.num_out - num_out
    notes = {**report.notes, "shards": len(shards), "bytes": sum(row.num_bytes for row in shards)}
    return report.model_copy(update={
        "num_out": num_out,
        "rejected": {**report.rejected, **({TAKEN_DOWN: num_taken} if num_taken else {})},
        "notes": {**notes, **{f"samples_{split}": count for split, count in splits.items()}},
    })  # fmt: skip


def _rewrite(path: Path, shard: ShardRow, removed: frozenset[str]) -> _Rewritten:
    offsets: dict[str, int] = {}
    if not path.is_file():
        return _Rewritten(None, offsets)  # emptied before a kill
    keys = set()
    with TarFile(path) as tar:
        for member in TarScan(path).members():
            named = split_name(member.name)
            if named is not None and named[0] not in removed:
                keys.add(named[0])
                offsets[member.name] = tar.add(member.name, member.payload)
        if not offsets:
            return _Rewritten(None, offsets)
        size, sha256 = tar.close()
    return _Rewritten(replace(shard, num_samples=len(keys), num_bytes=size, sha256=sha256), offsets)


def _shards(rows: Iterable[ShardRow], done: Mapping[str, _Rewritten]) -> Iterator[ShardRow]:
    for row in rows:
        now = done[row.shard].row if row.shard in done else row
        if now is not None:
            yield now


def _samples(rows: Iterable[SampleRow], removed: frozenset[str], done: Mapping[str, _Rewritten]) -> Iterator[SampleRow]:
    for row in rows:
        if row.key in removed:
            continue
        if row.shard not in done:
            yield row
            continue
        offsets = done[row.shard].offsets
        yield replace(
            row,
            image_offset_bytes=offsets[row.image_name],
            text_offset_bytes=offsets[f"{row.key}.{TEXT_FIELD}"],
            json_offset_bytes=offsets[f"{row.key}.{JSON_FIELD}"],
        )
