"""Scores on disk: made once for a caption table, used by every policy after."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sgv_data.errors import RunFolderError
from sgv_data.filter.rules import SCORING_VERSION
from sgv_data.run_folder import digest, file_sha256, publish_file, write_durably
from sgv_data.tables import ROWS_PER_FILE, ROWS_PER_GROUP, table_files

TABLE = "scores"
FACTS = "scores.json"


@dataclass(frozen=True, slots=True)
class ScoredFrom:
    """What scores depend on: the version of their rules, the captions' bytes, the instructions that may have leaked."""

    scoring_version: int
    captions: str
    instructions: str


def scored_from(captions: Path, instructions: Iterable[str]) -> ScoredFrom:
    """The facts for a folder with `captions-*.parquet`. Reads it whole, to hash it."""
    hashes = {path.name: file_sha256(path) for path in table_files(captions, "captions")}
    return ScoredFrom(SCORING_VERSION, digest(hashes), digest(sorted(set(instructions))))


def stored_scores(folder: Path, wanted: ScoredFrom) -> pa.Table | None:
    """The scores in `folder`, if they were made from just this and are whole."""
    facts = _facts(folder)
    if facts is None or facts["from"] != _plain(wanted):
        return None
    files = table_files(folder, TABLE)
    if {path.name: file_sha256(path) for path in files} != facts["files"]:
        return None
    return pa.concat_tables(pq.read_table(path) for path in files)


def read_scores(folder: Path, columns: Iterable[str]) -> pa.Table:
    """Some columns of the scores in `folder`, whatever they were made from.

    Raises:
        RunFolderError: if there are none, or they are of another scoring version.
    """
    facts = _facts(folder)
    files = table_files(folder, TABLE)
    if facts is None or not files:
        raise RunFolderError(f"{folder} holds no scores; run this filter first")
    if facts["from"]["scoring_version"] != SCORING_VERSION:
        raise RunFolderError(f"{folder} was scored by another version of the rules; run this filter with --redo")
    try:
        wanted = list(columns)
        return pa.concat_tables(_read_columns(path, wanted) for path in files)
    except (pa.ArrowInvalid, OSError, KeyError) as exc:
        raise RunFolderError(f"the scores in {folder} are damaged ({exc}); run this filter with --redo") from exc


def _read_columns(path: Path, columns: list[str]) -> pa.Table:
    with pq.ParquetFile(path, read_dictionary=["language"]) as file:
        return file.read(columns=columns)


def image_ids_at(folder: Path, places: Sequence[int]) -> list[str]:
    """The image ids of some rows; only the row groups that hold one are read."""
    ids: dict[int, str] = {}
    start = 0
    for path in table_files(folder, TABLE):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                here = [place for place in places if start <= place < end]
                if here:
                    column = file.read_row_group(group, columns=["image_id"])["image_id"]
                    ids |= {place: column[place - start].as_py() for place in here}
                start = end
    return [ids[place] for place in places]


def store_scores(folder: Path, scores: pa.Table, made_from: ScoredFrom) -> None:
    """Writes scores and, last, what they were made from."""
    (folder / FACTS).unlink(missing_ok=True)
    files = write_columns(folder, TABLE, scores, ROWS_PER_FILE)  # read whole, column by column
    facts = {"from": _plain(made_from), "files": {path.name: file_sha256(path) for path in files}}
    write_durably(folder / FACTS, json.dumps(facts, indent=1, sort_keys=True) + "\n")


def write_columns(folder: Path, name: str, table: pa.Table, rows_per_group: int = ROWS_PER_GROUP) -> list[Path]:
    """Writes a table as `tables.write_table` does, without making rows of it; returns its files."""
    for stale in table_files(folder, name):
        stale.unlink()
    files = []
    for number, start in enumerate(range(0, max(len(table), 1), ROWS_PER_FILE)):
        final = folder / f"{name}-{number:05d}.parquet"
        temporary = final.with_name(f".{final.name}.tmp")
        part = table.slice(start, ROWS_PER_FILE)
        pq.write_table(part, temporary, row_group_size=rows_per_group, compression="zstd")
        publish_file(temporary, final)
        files.append(final)
    return files


def _facts(folder: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return facts if isinstance(facts["from"], dict) and isinstance(facts["files"], dict) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _plain(made_from: ScoredFrom) -> dict[str, Any]:
    return {
        "scoring_version": made_from.scoring_version,
        "captions": made_from.captions,
        "instructions": made_from.instructions,
    }
