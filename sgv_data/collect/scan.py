"""Which pictures still have to be asked about: a stream of index rows against the reply cache. Decodes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from sgv_data.api.cache import ReplyCache
from sgv_data.api.prices import TokenPrice
from sgv_data.collect.prepare import recipe_name
from sgv_data.collect.questions import Questions
from sgv_data.manifest import Manifest
from sgv_data.records import ImageRow, image_order
from sgv_data.tables import read_table, table_files

_ROWS_AT_ONCE = 256


@dataclass(slots=True)
class Tally:
    """How many usable pictures there are, how many the teacher gets, and what these can cost at most."""

    num_usable: int = 0
    num_asked: int = 0
    worst_usd: float = 0.0


def tally(index: Path, questions: Questions, price: TokenPrice | None) -> Tally:
    """Counts the index; reads only the columns it needs."""
    count = Tally()
    columns = ["reject", "for_teacher", "source", "width_px", "height_px"]
    for path in table_files(index, "images"):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    if row["reject"] is not None:
                        continue
                    count.num_usable += 1
                    if row["for_teacher"]:
                        count.num_asked += 1
                        if price:
                            count.worst_usd += questions.worst_usd(
                                row["source"], row["width_px"], row["height_px"], price)
    return count


def asked_rows(index: Path) -> Iterator[ImageRow]:
    """The pictures that the teacher gets, in hash order."""
    return (row for row in read_table(index, "images", ImageRow) if row.for_teacher and row.reject is None)


def in_parts(rows: Iterator[ImageRow]) -> Iterator[list[ImageRow]]:
    """The rows in lists of a few hundred."""
    while part := list(islice(rows, _ROWS_AT_ONCE)):
        yield part


def pending_rows(
    index: Path, manifest: Manifest, questions: Questions, cache: ReplyCache, session: str
) -> Iterator[list[ImageRow]]:
    """The pictures without an answer or a failure of this session, in lists that are never empty."""
    recipe = recipe_name(manifest.teacher.image)
    for part in in_parts(asked_rows(index)):
        sent = cache.sent(recipe, {row.sha256 for row in part})
        keys = {row.image_id: questions.key(row, sent[row.sha256]) for row in part if row.sha256 in sent}
        failures = cache.failures(session, [*keys.values(), *(image_order(row.image_id) for row in part)])
        ended = cache.answered(keys.values()) | failures.keys()
        pending = [row for row in part if not ended & {image_order(row.image_id), keys.get(row.image_id, "")}]
        if pending:
            yield pending
