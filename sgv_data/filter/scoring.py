"""Scores of a whole caption table: in processes, a row group at a time, then what only the whole set tells."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sgv_data.errors import RunFolderError
from sgv_data.filter.near_duplicates import Digests, digests_of, find_twins
from sgv_data.filter.phrases import Instructions
from sgv_data.filter.rules import Scores, opening_of, score
from sgv_data.processes import in_order, usable_cores
from sgv_data.progress import Progress
from sgv_data.records import Outcome, ScoreRow, image_order
from sgv_data.tables import schema_of, table_files
from sgv_data.words import split_words, visible

_COLUMNS = ["image_id", "text", "outcome", "finish_reason"]
# Starting processes takes about as long as scoring so many captions.
_FEWEST_FOR_PROCESSES = 20_000


@dataclass(frozen=True, slots=True)
class _Task:
    path: Path
    row_group: int
    instructions: Instructions


@dataclass(frozen=True, slots=True)
class _Scored:
    table: pa.Table
    openings: list[str]
    digests: Digests


def score_table(folder: Path, instructions: Instructions, progress: Progress) -> pa.Table:
    """The `ScoreRow`s of all answered captions, in hash order. About 1 KB of memory per caption.

    Raises:
        RunFolderError: if the captions are not there or cannot be read.
    """
    tasks, num_rows = _tasks(folder, instructions)
    tables: list[pa.Table] = []
    openings: list[npt.NDArray[np.int64]] = []
    digests: list[Digests] = []
    known: dict[str, int] = {}
    for scored in in_order(_score_group, tasks, usable_cores() if num_rows >= _FEWEST_FOR_PROCESSES else 1):
        tables.append(scored.table)
        openings.append(np.array([known.setdefault(each, len(known)) for each in scored.openings], dtype=np.int64))
        digests.append(scored.digests)
        progress.advance(len(scored.table))
    if not tables:
        return schema_of(ScoreRow).empty_table()
    return _with_set_scores(pa.concat_tables(tables), np.concatenate(openings), np.concatenate(digests))


def _tasks(folder: Path, instructions: Instructions) -> tuple[list[_Task], int]:
    """One task per row group, and the number of rows."""
    files = table_files(folder, "captions")
    if not files:
        raise RunFolderError(f"{folder} holds no captions-*.parquet; the stage that writes it has not run")
    tasks: list[_Task] = []
    num_rows = 0
    for path in files:
        try:
            about = pq.read_metadata(path)
        except (pa.ArrowInvalid, OSError) as exc:
            raise RunFolderError(f"{path} is damaged ({exc}); remove its stage with --redo") from exc
        tasks += [_Task(path, group, instructions) for group in range(about.num_row_groups)]
        num_rows += about.num_rows
    return tasks, num_rows


def _score_group(task: _Task) -> _Scored:
    try:
        table = pq.ParquetFile(task.path).read_row_group(task.row_group, columns=_COLUMNS)
    except (pa.ArrowInvalid, OSError, KeyError) as exc:
        raise RunFolderError(f"{task.path} is damaged or of another version ({exc})") from exc
    table = table.filter(pc.not_equal(table["outcome"], Outcome.FAILED.value))
    texts = table["text"].to_pylist()
    outcomes = map(Outcome, table["outcome"].to_pylist())
    scores = [
        score(text, finish_reason, outcome, task.instructions)
        for text, finish_reason, outcome in zip(texts, table["finish_reason"].to_pylist(), outcomes, strict=True)
    ]
    columns = {"image_id": table["image_id"]} | {
        field.name: pa.array([getattr(each, field.name) for each in scores], schema_of(ScoreRow).field(field.name).type)
        for field in fields(Scores)
    }
    tokens = [split_words(visible(text)).tokens for text in texts]
    return _Scored(pa.table(columns), [opening_of(each) for each in tokens], digests_of(tokens))


def _with_set_scores(table: pa.Table, openings: npt.NDArray[np.int64], digests: Digests) -> pa.Table:
    orders = [image_order(image_id) for image_id in table["image_id"].to_pylist()]
    if any(first > second for first, second in pairwise(orders)):  # a table that another program wrote
        places = np.array(sorted(range(len(orders)), key=orders.__getitem__), dtype=np.int64)
        table, openings, digests = table.take(pa.array(places)), openings[places], digests[places]
    twins = find_twins(digests)
    counts = np.bincount(openings, minlength=1) if len(openings) else np.zeros(1)
    has_twin = twins.twin >= 0
    twin_ids = table["image_id"].combine_chunks().take(pa.array(np.where(has_twin, twins.twin, 0)))
    columns = {
        "opening_share": pa.array(counts[openings] / max(len(openings), 1)),
        "twin_similarity": pa.array(twins.similarity),
        "twin_of": pc.if_else(pa.array(has_twin), twin_ids, pa.scalar(None, pa.string())),
        "twin_place": pa.array(twins.twin),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table.select(schema_of(ScoreRow).names).cast(schema_of(ScoreRow))


def set_notes(scores: pa.Table) -> dict[str, float | int | str | None]:
    """What is said of the set as a whole: its openings, languages and twins."""
    if not len(scores):
        return {}
    shares = scores["opening_share"].to_numpy()
    languages = pc.value_counts(scores["language"]).to_pylist()
    most = min(languages, key=lambda each: (-each["counts"], each["values"]))
    similar = scores["twin_similarity"].to_numpy()
    return {
        "commonest_opening_share": float(shares.max()),
        "stock_opening_share": float(np.mean(scores["stock_opening"].to_numpy())),
        "distinct_openings_share": float((1 / (shares * len(shares))).sum() / len(shares)),
        "commonest_language": most["values"] or None,
        "same_caption_on_other_pictures": int((similar >= 1).sum()),
        "median_words": float(np.median(scores["num_words"].to_numpy())),
        "hedging_captions_share": float((scores["hedge_density"].to_numpy() > 0).mean()),
    }

